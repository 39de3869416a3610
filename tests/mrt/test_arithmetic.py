"""The numbers of quantization, by reference values and by properties."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mrt import arithmetic
from mrt import sim_quant_helper as sim
from mrt.arithmetic import apply_rescale, bits, code_range, plan_rescale, quantize, scale_for, shift_right
from mrt.errors import MRTError


@pytest.mark.parametrize("value, expected", [(0, 1), (1, 2), (2, 3), (3, 3), (127, 8), (127.5, 9), (128, 9), (-127, 8),
                                             (2**31 - 1, 32), ([3, -200], 9)])
def test_bits(value, expected):
    assert bits(value) == expected


@pytest.mark.parametrize("count, expected", [(1, 1), (2, 2), (3, 2), (4, 3), (27, 5), (65535, 16), (65536, 17)])
def test_count_bits(count, expected):
    assert arithmetic.count_bits(count) == expected


@pytest.mark.parametrize("number, width, expected", [(0.3, 12, (1229, -12)), (0.3, 4, (5, -4)), (0.3, 2, (1, -2)),
                                                     (1.9, 2, (1, 0)), (1.5, 3, (3, -1)), (4, 24, (1, 2)), (0, 8, (0, 0))])
def test_cvm_float_reference_values(number, width, expected):
    assert sim.cvm_float(number, width) == expected


@pytest.mark.parametrize("number", [0.3, 1.0, -2.5, 1e-3, 0.0, 16777215.0])
def test_float_bin_is_exact(number):
    frac, exponent = sim.extract_float(number)
    assert frac * 2.0 ** exponent == np.float32(number)
    assert frac == 0 or frac % 2


@pytest.mark.parametrize("x, shift, expected", [(3, 1, 2), (-3, 1, -1), (-1, 1, 0), (1, 1, 1), (5, 2, 1), (6, 2, 2), (-6, 2, -1),
                                                (2**31 - 1, 31, 1), (-2**31 + 1, 31, -1), (12345, 32, 0)])
def test_shift_right_rounds_halves_up(x, shift, expected):
    assert shift_right(np.int64(x), shift, 32) == expected


def test_scale_for():
    assert scale_for(4.0, 8) == 31.75
    assert scale_for(0.0, 8) == 1.0
    np.testing.assert_array_equal(scale_for([2.0, 0.0], 8), [63.5, 1.0])
    for bad in (-1.0, np.inf, np.nan):
        with pytest.raises(MRTError, match="threshold"):
            scale_for(bad, 8)


def test_quantize_clips():
    np.testing.assert_array_equal(quantize([0.6, -0.4, 9.0, -9.0], 2.0, 4), [1, -1, 7, -7])


widths = st.integers(2, 32)


@st.composite
def rescalings(draw):
    in_precision = draw(st.integers(2, 32))
    precision = draw(st.integers(2, 16))
    bound = draw(st.integers(1, in_precision))
    # factors as they occur: the largest bounded value lands near the largest output code, channels within 2^8 of each other
    top = code_range(precision) / max(code_range(bound), 1)
    vector = draw(st.booleans())
    spread = draw(st.lists(st.floats(0.004, 1.0), min_size=1, max_size=6)) if vector else draw(st.floats(0.3, 1.0))
    return np.asarray(spread) * min(top, 1.0), in_precision, bound, precision


@given(rescalings(), st.data())
def test_rescaled_integers_are_near_the_real_product_and_fit(case, data):
    factor, in_precision, bound, precision = case
    plan = plan_rescale(factor, in_precision, bound, precision)
    count = max(factor.size, 1)
    limit = code_range(in_precision)
    x = np.array(data.draw(st.lists(st.lists(st.integers(-limit, limit), min_size=count, max_size=count), min_size=1,
                                    max_size=5)), np.int64)
    y = apply_rescale(x, plan)
    width = plan.narrow or in_precision
    assert np.abs(y).max() <= code_range(precision)
    assert int(np.max(plan.multiplier)) <= code_range(32 - width) or np.max(plan.multiplier) == 1
    assert 0 <= plan.shift <= 32 and 0 <= plan.pre_shift <= 32
    # inside the bound: half a step of the output, plus half a step of the pre-shift seen at the output
    inside = np.abs(x) <= code_range(width) * 2**plan.pre_shift
    real = np.clip(x * plan.factor, -code_range(precision), code_range(precision))
    slack = 0.5 + (0.5 * 2**plan.pre_shift * plan.factor if plan.pre_shift else 0)
    assert (np.abs(y - real) <= slack + 1e-9)[inside].all()


@given(rescalings())
def test_the_multiplier_approaches_the_factor(case):
    factor, in_precision, bound, precision = case
    plan = plan_rescale(factor, in_precision, bound, precision)
    width = plan.narrow or in_precision
    if plan.shift + plan.pre_shift < 32 + plan.pre_shift:  # not at the end of the shifter
        # half a unit of the multiplier, whose largest has at least 32 - width - 2 significant bits
        assert np.abs(plan.factor - factor).max() <= factor.max() * 2.0 ** -(32 - width - 2)


@given(st.integers(2, 31), st.integers(1, 31))
def test_a_product_never_leaves_32_bits(in_precision, bound):
    plan = plan_rescale(np.array([0.37, 0.0001]), in_precision, min(bound, in_precision), 8)
    width = plan.narrow or in_precision
    assert code_range(width) * int(np.max(plan.multiplier)) <= code_range(32)


def test_impossible_rescaling_is_refused():
    with pytest.raises(MRTError, match="cannot scale"):
        plan_rescale(1000.0, 31, 31, 32)
    for bad in (0.0, -1.0, np.nan):
        with pytest.raises(MRTError, match="positive"):
            plan_rescale(bad, 16, 16, 8)


def test_worked_example_of_a_convolution():
    """conv: scale 8064.5, 22 bits, threshold 6; next input 8 bits: the largest code is 127, not 94.5 as with a power of two."""
    target = 127 / 6.0
    plan = plan_rescale(target / 8064.5, 22, bits(6.0 * 8064.5), 8)
    assert apply_rescale(np.array([round(6.0 * 8064.5)]), plan)[0] == 127
    assert plan.narrow == 17 and plan.pre_shift == 0
