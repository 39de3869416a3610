// The inner loops of every instruction set that this machine has, against the
// plainest loops, on random pieces in buffers that end where the piece ends.
//
//   kernels SEED COUNT     COUNT pieces of each kind for each instruction set
//   kernels                the name of the one that the runtime chooses
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "aligned.h"
#include "cpu/isa/isa.h"

using namespace cvm;

#ifdef CVM_HAS_AVX512VNNI
namespace cvm {
extern const Isa kAvxVnniOfAvx512;  // avxvnni.cc, compiled for AVX-512
}
#endif

namespace {

constexpr int kSlots = 4;  // that epilogues use

std::mt19937_64 generator;

int64_t pick(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(generator); }
template <class T>
T one_of(std::initializer_list<T> list) {
  return list.begin()[pick(0, static_cast<int64_t>(list.size()) - 1)];
}

template <class T>
std::vector<T> random_vector(int64_t n, int64_t low, int64_t high) {
  std::vector<T> v(static_cast<size_t>(n));
  for (T& x : v) x = static_cast<T>(pick(low, high));
  return v;
}

int64_t padded(int64_t channels) { return (channels + kChannelPadding - 1) / kChannelPadding * kChannelPadding; }

// Often the largest, where products overflow.
std::vector<int8_t> random_weights(int64_t n) {
  const int64_t bound = one_of<int64_t>({3, 40, 127});
  auto v = random_vector<int8_t>(n, -bound - 1, bound);
  if (pick(0, 3) == 0)
    for (int8_t& w : v) w = one_of<int8_t>({-128, 127, w});
  return v;
}
std::vector<uint8_t> random_codes(int64_t n) {
  const int64_t low = one_of<int64_t>({0, 0, 250});
  return random_vector<uint8_t>(n, low, low == 0 ? one_of<int64_t>({5, 255, 255}) : 255);
}

// Exactly `bytes` on the heap, for the address sanitizer; not aligned.
struct Memory {
  explicit Memory(int64_t bytes) : data(static_cast<size_t>(bytes)) {
    for (char& c : data) c = static_cast<char>(pick(0, 255));
  }
  std::vector<char> data;
};

int32_t read(const char* p, Storage s) {
  int32_t word;
  int16_t half;
  if (s == Storage::kByte) return static_cast<uint8_t>(*p);
  if (s == Storage::kShort) return std::memcpy(&half, p, 2), half;
  return std::memcpy(&word, p, 4), word;
}
void write(char* p, Storage s, int32_t v) {
  const uint8_t byte = static_cast<uint8_t>(std::min(v, 255));
  const int16_t half = static_cast<int16_t>(std::min(std::max(v, INT16_MIN), INT16_MAX));
  const void* from = &v;
  if (s == Storage::kByte) from = &byte;
  if (s == Storage::kShort) from = &half;
  std::memcpy(p, from, static_cast<size_t>(bytes_of(s)));
}

int32_t wrap(int64_t x) { return static_cast<int32_t>(static_cast<uint32_t>(static_cast<uint64_t>(x))); }

// A random epilogue with its tensors, constants and tables.
struct Epilogue {
  static constexpr int kTensors = 4;
  std::vector<MapOp> ops;
  std::vector<std::vector<int32_t>> constants;  // and tables
  std::vector<Memory> tensors;
  Storage storage[kTensors];
  char* places[kTensors][kMaxPixels];
  std::vector<int32_t> slots;
  int64_t depth;  // channels of a tensor
  int pixels;

  Epilogue(const Piece& piece, bool loads)
      : slots(kSlots * kSlotElements), depth(piece.channel + piece.channels + pick(0, 1) * pick(0, 40)), pixels(piece.pixels) {
    for (int t = 0; t < kTensors; ++t) {
      storage[t] = one_of({Storage::kByte, Storage::kShort, Storage::kInt});
      tensors.emplace_back(pixels * depth * bytes_of(storage[t]));
    }
    place();
    if (loads) add(Primitive::kLoad, Operand::kTensor);
    for (int k = 0; k < kSlots; ++k) add(Primitive::kStore, Operand::kSlot).index = k;
    for (int64_t n = pick(0, 12); n > 0; --n) {
      const auto primitive = static_cast<Primitive>(pick(0, static_cast<int64_t>(kLastPrimitive)));
      add(primitive, operand_of(primitive));
    }
    add(Primitive::kStore, Operand::kTensor);
  }
  Epilogue(const Epilogue& other) = delete;

  void place() {
    for (int t = 0; t < kTensors; ++t)
      for (int i = 0; i < pixels; ++i)
        places[t][i] = tensors[static_cast<size_t>(t)].data.data() + i * depth * bytes_of(storage[t]);
  }

  static Operand operand_of(Primitive primitive) {
    if (primitive == Primitive::kStore) return one_of({Operand::kTensor, Operand::kSlot});
    const bool any = facts(primitive).joins || primitive == Primitive::kLoad;
    return any ? one_of({Operand::kConstant, Operand::kTensor, Operand::kSlot}) : Operand::kConstant;
  }

  MapOp& add(Primitive primitive, Operand operand) {
    MapOp op{primitive, operand};
    const bool slot = operand == Operand::kSlot, tensor = operand == Operand::kTensor;
    op.index = static_cast<int>(pick(0, slot ? kSlots - 1 : kTensors - 1));
    if (tensor) op.storage = storage[op.index];
    if (primitive == Primitive::kStore && tensor && op.storage == Storage::kByte)
      ops.push_back({Primitive::kMax, Operand::kConstant});
    if (primitive == Primitive::kFloorShift || primitive == Primitive::kLeftShift) {
      op.value = static_cast<int32_t>(pick(0, 31));
    } else if (primitive == Primitive::kLookUp) {
      op.value = static_cast<int32_t>(pick(0, 300));
      constants.push_back(random_vector<int32_t>(op.value + 1, -1000000, 1000000));
      op.table = constants.back().data();
    } else if (operand == Operand::kConstant) {
      op.value = static_cast<int32_t>(pick(-1000, 1000));
      if (pick(0, 1)) {
        constants.push_back(random_vector<int32_t>(padded(depth), -100000, 100000));
        op.channels = constants.back().data();
      }
    }
    ops.push_back(op);
    return ops.back();
  }

  void run(int32_t v, int i, int64_t c, std::vector<Memory>& to) const {
    int32_t slot[kSlots] = {};
    for (const MapOp& op : ops) {
      char* place = nullptr;
      int32_t u = op.channels ? op.channels[c] : op.value;
      if (op.operand == Operand::kTensor) {
        char* const tensor = to[static_cast<size_t>(op.index)].data.data();
        place = tensor + (i * depth + c) * bytes_of(op.storage);
        u = read(place, op.storage);
      } else if (op.operand == Operand::kSlot) {
        u = slot[op.index];
      }
      if (op.primitive == Primitive::kStore)
        place ? write(place, op.storage, v) : void(slot[op.index] = v);
      else if (op.primitive == Primitive::kLookUp)
        v = op.table[std::min(std::max(v, 0), op.value)];
      else
        v = wrap(facts(op.primitive).apply(v, u));
    }
  }
};

const char* kind = "";
void require(bool good, const Isa& isa, const Piece& piece) {
  if (good) return;
  std::printf("%s differs in a %s of %d pixels, channels %lld + %lld\n", isa.name, kind, piece.pixels,
              static_cast<long long>(piece.channel), static_cast<long long>(piece.channels));
  for (int k = 0; k < piece.num_ops; ++k) std::printf(" %s,", facts(piece.ops[k].primitive).name);
  std::printf("\n");
  std::exit(1);
}

// Runs kernel(piece) and compares all tensors with those of value(pixel, channel).
template <class AnyPiece, class Kernel, class Value>
void check(const Isa& isa, AnyPiece& piece, bool loads, Kernel kernel, Value value) {
  Epilogue epilogue(piece, loads);
  piece.ops = epilogue.ops.data();
  piece.num_ops = static_cast<int>(epilogue.ops.size());
  piece.places = epilogue.places;
  piece.slots = epilogue.slots.data();
  std::vector<Memory> expected = epilogue.tensors;
  for (int i = 0; i < piece.pixels; ++i)
    for (int64_t c = 0; c < piece.channels; ++c) epilogue.run(value(i, c), i, piece.channel + c, expected);
  kernel(piece);
  for (size_t t = 0; t < expected.size(); ++t) require(expected[t].data == epilogue.tensors[t].data, isa, piece);
}

void shape(Piece& piece, int pixels, int channels, int64_t multiple) {
  piece.pixels = static_cast<int>(pick(1, pixels));
  piece.channels = pick(0, 1) ? channels : pick(1, channels);
  piece.channel = pick(0, 3) * multiple;
}

void check_conv(const Isa& isa) {
  ConvPiece piece;
  shape(piece, isa.conv_pixels, isa.panel, isa.panel);
  piece.num_taps = pick(1, one_of({1, 2, 9}));
  piece.run = 4 * pick(1, one_of({1, 4, 40}));
  const int64_t depth = piece.num_taps * piece.run;
  const auto weights = random_weights(piece.channels * depth);
  const auto codes = random_codes(piece.run + pick(0, 300));
  const auto bias = random_vector<int32_t>(isa.panel, -1000000, 1000000);
  std::vector<int64_t> taps;
  const int64_t slack = static_cast<int64_t>(codes.size()) - piece.run;
  const int64_t furthest = pick(0, slack);
  for (int64_t t = 0; t < piece.num_taps; ++t) taps.push_back(pick(0, furthest));
  const uint8_t* in[kMaxPixels];
  for (int i = 0; i < piece.pixels; ++i) in[i] = codes.data() + pick(0, 1) * (slack - furthest);
  AlignedBlock panel(isa.panel_bytes(depth));
  isa.pack(weights.data(), piece.channels, depth, panel.data());
  std::vector<int16_t> wide(static_cast<size_t>(piece.pixels * depth));
  Widened widened = {wide.data(), false};
  piece.in = in, piece.taps = taps.data(), piece.weights = panel.data(), piece.bias = bias.data(), piece.widened = &widened;
  check(isa, piece, false, isa.conv, [&](int i, int64_t c) {
    int64_t sum = bias[static_cast<size_t>(c)];
    for (int64_t t = 0; t < piece.num_taps; ++t)
      for (int64_t k = 0; k < piece.run; ++k)
        sum += (in[i][taps[static_cast<size_t>(t)] + k] + isa.byte_offset) *
               weights[static_cast<size_t>(c * depth + t * piece.run + k)];
    return wrap(sum);
  });
}

void check_depthwise(const Isa& isa) {
  DepthwisePiece piece;
  shape(piece, isa.depthwise_pixels, isa.depthwise_channels, isa.depthwise_channels);
  const int square = one_of({0, 3, 5});
  piece.kernel_h = square ? square : static_cast<int>(pick(1, 9));
  piece.kernel_w = square ? square : static_cast<int>(pick(1, 7));
  const int64_t channels = piece.channel + piece.channels + pick(0, 1) * pick(0, 20);
  piece.tap_step = channels * one_of({1, 1, 2, 3});
  piece.pixel_step = channels * pick(1, 3);
  const auto weights = random_weights(channels * piece.kernel_h * piece.kernel_w);
  const auto bias = random_vector<int32_t>(padded(channels), -1000000, 1000000);
  std::vector<std::vector<uint8_t>> codes;
  std::vector<const uint8_t*> rows;
  for (int a = 0; a < piece.kernel_h; ++a)
    codes.push_back(random_codes((piece.pixels - 1) * piece.pixel_step + (piece.kernel_w - 1) * piece.tap_step +
                                 piece.channel + piece.channels));
  for (const auto& row : codes) rows.push_back(row.data());
  AlignedBlock packed(isa.depthwise_bytes(channels, piece.kernel_h, piece.kernel_w));
  isa.pack_depthwise(weights.data(), channels, piece.kernel_h, piece.kernel_w, packed.data());
  piece.rows = rows.data(), piece.weights = packed.data(), piece.bias = bias.data();
  check(isa, piece, false, isa.depthwise, [&](int i, int64_t c0) {
    const int64_t c = piece.channel + c0;
    int64_t sum = bias[static_cast<size_t>(c)];
    for (int a = 0; a < piece.kernel_h; ++a)
      for (int b = 0; b < piece.kernel_w; ++b)
        sum += (rows[static_cast<size_t>(a)][i * piece.pixel_step + b * piece.tap_step + c] + isa.byte_offset) *
               weights[static_cast<size_t>((c * piece.kernel_h + a) * piece.kernel_w + b)];
    return wrap(sum);
  });
}

void check_window(const Isa& isa) {
  WindowPiece piece;
  shape(piece, isa.map_pixels, isa.map_channels, isa.map_channels);
  piece.sums = pick(0, 1);
  piece.storage = one_of({Storage::kByte, Storage::kShort, Storage::kInt});
  piece.num_taps = pick(1, one_of({1, 9, 60}));
  const int64_t bytes = bytes_of(piece.storage), size = (piece.channel + piece.channels) * bytes;
  const int64_t slack = 4 * pick(0, 100), furthest = 4 * pick(0, slack / 4);
  const Memory memory(size + slack);
  std::vector<int64_t> taps;
  for (int64_t t = 0; t < piece.num_taps; ++t) taps.push_back(4 * pick(0, furthest / 4));
  const char* in[kMaxPixels];
  for (int i = 0; i < piece.pixels; ++i) in[i] = memory.data.data() + pick(0, 1) * (slack - furthest);
  piece.in = in, piece.taps = taps.data();
  check(isa, piece, false, isa.window, [&](int i, int64_t c) {
    int64_t v = 0;
    for (size_t t = 0; t < taps.size(); ++t) {
      const int64_t x = read(in[i] + taps[t] + (piece.channel + c) * bytes, piece.storage);
      v = t == 0 ? x : piece.sums ? v + x : std::max(v, x);
    }
    return wrap(v);
  });
}

void check_map(const Isa& isa) {
  Piece piece;
  shape(piece, isa.map_pixels, isa.map_channels, isa.map_channels);
  check(isa, piece, true, isa.map, [](int, int64_t) { return 0; });
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    try {
      std::printf("%s\n", isa().name);
    } catch (const Error& error) {
      std::printf("%s\n", error.what());
      return 1;
    }
    return 0;
  }
  std::vector<const Isa*> isas;
  const auto offer = [&](const Isa& isa, const Isa& needed) {
    if (needed.available()) isas.push_back(&isa);
  };
  offer(kScalar, kScalar);
#ifdef CVM_HAS_NEON
  offer(kNeon, kNeon);
#endif
#ifdef CVM_HAS_DOTPROD
  offer(kDotprod, kDotprod);
#endif
#ifdef CVM_HAS_AVX2
  offer(kAvx2, kAvx2);
#endif
#ifdef CVM_HAS_AVXVNNI
  offer(kAvxVnni, kAvxVnni);
#endif
#ifdef CVM_HAS_AVX512
  offer(kAvx512, kAvx512);
#endif
#ifdef CVM_HAS_AVX512VNNI
  offer(kAvx512Vnni, kAvx512Vnni);
  offer(kAvxVnniOfAvx512, kAvx512Vnni);
#endif
  for (const Isa* isa : isas) {
    generator.seed(static_cast<uint64_t>(std::atoll(argv[1])));
    for (long n = std::atol(argv[2]); n > 0; --n) {
      kind = "convolution", check_conv(*isa);
      kind = "depthwise convolution", check_depthwise(*isa);
      kind = "window", check_window(*isa);
      kind = "map", check_map(*isa);
    }
    std::printf("%s\n", isa->name);
  }
}
