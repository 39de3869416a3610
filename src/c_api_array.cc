// The array half of the C interface: plain tensors and params files.
#include <algorithm>
#include <cstring>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "aligned.h"
#include "c_api.h"
#include "c_api_guard.h"
#include "element_type.h"
#include "graph/params.h"
#include "shape.h"

namespace cvm {
namespace {

constexpr int kCpuArray = 1, kFormalArray = 3;

// What a handle points to: the public struct first, so that both share an address.
struct Array {
  CVMArray view{};
  Shape shape;
  AlignedBlock memory;
};

Array& array_of(CVMArrayHandle handle) {
  require(handle);
  return *reinterpret_cast<Array*>(handle);
}

int64_t element_bytes(const CVMArray& view) { return (view.dtype.bits * view.dtype.lanes + 7) / 8; }
int64_t elements(const Array& a) { return size_of(a.shape); }  // fits, as make_array has seen to
int64_t bytes_of(const Array& a) { return elements(a) * element_bytes(a.view); }

void check_dtype(int code, int bits, int lanes) {
  const bool power = bits > 0 && bits <= 128 && (bits & (bits - 1)) == 0;
  const bool whole = bits % 8 == 0 || (bits == 1 && code == kUint);
  if (code < kInt || code > kFloat || !power || !whole || lanes < 1 || lanes > 64)
    runtime_error("the element type has code ", code, ", ", bits, " bits and ", lanes,
                  " lanes, which is no type");
}

std::unique_ptr<Array> make_array(const Shape& shape, int code, int bits, int lanes,
                                  int device_type, int device_id) {
  check_dtype(code, bits, lanes);
  if (device_type != kCpuArray && device_type != kFormalArray)
    runtime_error("device ", device_type, " is not built in, expected 1 (cpu) or 3 (formal)");
  if (shape.size() > 32) runtime_error("rank is ", shape.size(), ", expected at most 32");
  int64_t bytes = (bits * lanes + 7) / 8;
  for (int64_t d : shape)
    if (d < 0 || __builtin_mul_overflow(bytes, d, &bytes) ||
        bytes > std::numeric_limits<int64_t>::max() / 2)
      runtime_error("an array of shape ", to_string(shape), " cannot be allocated");
  auto a = std::make_unique<Array>();
  a->shape = shape;
  a->memory = AlignedBlock(bytes);
  a->view.data = a->memory.data();
  a->view.ctx = {device_type, device_id};
  a->view.ndim = static_cast<int32_t>(shape.size());
  a->view.dtype = {static_cast<uint8_t>(code), static_cast<uint8_t>(bits),
                   static_cast<uint16_t>(lanes)};
  a->view.shape = a->shape.data();
  return a;
}

void check_bytes(const Array& a, uint64_t nbytes) {
  if (nbytes != static_cast<uint64_t>(bytes_of(a)))
    runtime_error(nbytes, " bytes given for an array of ", bytes_of(a), " bytes");
}

void copy_bytes(void* to, const void* from, int64_t bytes) {
  if (bytes > 0) std::memcpy(to, from, static_cast<size_t>(bytes));
}

// ---- Elements of any type ---------------------------------------------------

template <class F>
void with_type(const Array& a, F f) {
  const auto& t = a.view.dtype;
  if (t.lanes != 1) runtime_error("elements of ", t.lanes, " lanes are not supported");
  cvm::with_type(t.code, t.bits, f);
}

// Conversion that is defined for every value: saturating from floating point,
// modulo between integers.
template <class To, class From>
To convert(From value) {
  if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
    if (!(value == value)) return 0;
    if (value <= static_cast<From>(std::numeric_limits<To>::min()))
      return std::numeric_limits<To>::min();
    if (value >= static_cast<From>(std::numeric_limits<To>::max()))
      return std::numeric_limits<To>::max();
  }
  return static_cast<To>(value);
}

struct Slice {
  Shape start, step, extent;

  // Number of elements. An axis of step 0 can be as long as an int allows.
  int64_t size() const {
    if (std::find(extent.begin(), extent.end(), 0) != extent.end()) return 0;
    int64_t n = 1;
    for (int64_t d : extent)
      if (__builtin_mul_overflow(n, d, &n))
        logic_error("a slice of the sizes ", to_string(extent), " has too many elements");
    return n;
  }
};

Slice read_slice(const Array& target, const int* indices) {
  require(indices);
  const size_t rank = target.shape.size();
  Slice s;
  for (size_t k = 0; k < rank; ++k) {
    const int64_t start = indices[k], step = indices[2 * rank + k], extent = indices[3 * rank + k];
    if (extent < 0) logic_error("the slice of axis ", k, " has the size ", extent);
    const int64_t last = start + step * (extent - 1);
    const bool inside = start >= 0 && start < target.shape[k] && last >= 0 && last < target.shape[k];
    if (extent > 0 && !inside)
      logic_error("the slice of axis ", k, " runs over ", start, "..", last, ", expected 0..",
                  target.shape[k] - 1);
    s.start.push_back(start);
    s.step.push_back(step);
    s.extent.push_back(extent);
  }
  return s;
}

// Calls f(offset into target, number of the element) for all of the slice.
template <class F>
void for_each_element(const Array& target, const Slice& s, F f) {
  const size_t rank = target.shape.size();
  Shape index(rank, 0);
  const int64_t size = s.size();
  for (int64_t i = 0; i < size; ++i) {
    int64_t offset = 0;
    for (size_t k = 0; k < rank; ++k)
      offset = offset * target.shape[k] + s.start[k] + index[k] * s.step[k];
    f(offset, i);
    for (size_t k = rank; k-- > 0;) {
      if (++index[k] < s.extent[k]) break;
      index[k] = 0;
    }
  }
}

// ---- Params files -----------------------------------------------------------

struct LoadedParams {
  std::vector<std::string> names;
  std::vector<const char*> name_pointers;
  std::vector<void*> values;
};

thread_local std::string saved_params;
thread_local LoadedParams loaded_params;

std::unique_ptr<Array> to_array(const ParamTensor& t) {
  auto a = make_array(t.shape, t.type_code, t.bits, t.lanes, t.device_type, 0);
  copy_bytes(a->view.data, t.data, t.bytes);
  return a;
}

ParamTensor to_tensor(const char* name, const Array& a) {
  ParamTensor t;
  t.name = name;
  t.type_code = a.view.dtype.code;
  t.bits = a.view.dtype.bits;
  t.lanes = a.view.dtype.lanes;
  t.shape = a.shape;
  t.data = static_cast<const char*>(a.view.data);
  t.bytes = bytes_of(a);
  return t;
}

}  // namespace
}  // namespace cvm

using namespace cvm;

extern "C" {

int CVMArrayAlloc(const int64_t* shape, int ndim, int dtype_code, int dtype_bits, int dtype_lanes,
                  int device_type, int device_id, CVMArrayHandle* out) {
  return guarded([&] {
    require(out);
    if (ndim < 0) runtime_error("rank is ", ndim);
    if (ndim > 0) require(shape);
    auto a = make_array(Shape(shape, shape + ndim), dtype_code, dtype_bits, dtype_lanes,
                        device_type, device_id);
    *out = &a.release()->view;
  });
}

int CVMArrayFree(CVMArrayHandle handle) {
  return guarded([&] {
    if (handle) delete &array_of(handle);
  });
}

int CVMArrayCopyFromBytes(CVMArrayHandle handle, void* data, uint64_t nbytes) {
  return guarded([&] {
    Array& a = array_of(handle);
    check_bytes(a, nbytes);
    if (nbytes > 0) require(data);
    copy_bytes(a.view.data, data, bytes_of(a));
  });
}

int CVMArrayCopyToBytes(CVMArrayHandle handle, void* data, uint64_t nbytes) {
  return guarded([&] {
    const Array& a = array_of(handle);
    check_bytes(a, nbytes);
    if (nbytes > 0) require(data);
    copy_bytes(data, a.view.data, bytes_of(a));
  });
}

int CVMArrayCopyFromTo(CVMArrayHandle from, CVMArrayHandle to, CVMStreamHandle /*stream*/) {
  return guarded([&] {
    const Array &a = array_of(from), &b = array_of(to);
    check_bytes(b, static_cast<uint64_t>(bytes_of(a)));
    if (a.view.ctx.device_type != b.view.ctx.device_type &&
        a.view.ctx.device_type != kCpuArray && b.view.ctx.device_type != kCpuArray)
      runtime_error("cannot copy from device ", a.view.ctx.device_type, " to device ",
                    b.view.ctx.device_type);
    if (&a != &b) copy_bytes(b.view.data, a.view.data, bytes_of(a));
  });
}

int CVMSaveParamsDict(const void** params, int num_params, CVMByteArray* out) {
  return guarded([&] {
    require(out);
    if (num_params < 0 || num_params % 2 != 0)
      runtime_error("num_params is ", num_params, ", expected an even number");
    if (num_params > 0) require(params);
    std::vector<ParamTensor> tensors;
    for (int i = 0; i < num_params; i += 2) {
      const char* name = static_cast<const char*>(params[i]);
      require(name);
      const auto handle = static_cast<CVMArrayHandle>(const_cast<void*>(params[i + 1]));
      tensors.push_back(to_tensor(name, array_of(handle)));
    }
    saved_params = format_params(tensors);
    *out = {saved_params.data(), saved_params.size()};
  });
}

int CVMLoadParamsDict(const char* data, int datalen, int* num, const char*** names,
                      void*** values) {
  return guarded([&] {
    require(data, num, names, values);
    if (datalen < 0) runtime_error("datalen is ", datalen);
    LoadedParams loaded;
    std::vector<std::unique_ptr<Array>> arrays;
    for (const ParamTensor& t : parse_params(data, static_cast<size_t>(datalen))) {
      loaded.names.push_back(t.name);
      arrays.push_back(to_array(t));
    }
    for (const std::string& name : loaded.names) loaded.name_pointers.push_back(name.c_str());
    loaded.values.reserve(arrays.size());
    for (auto& a : arrays) loaded.values.push_back(&a.release()->view);
    loaded_params = std::move(loaded);  // moves the vectors: the name pointers stay valid
    *num = static_cast<int>(loaded_params.values.size());
    *names = loaded_params.name_pointers.data();
    *values = loaded_params.values.data();
  });
}

int CVMAssignAllScalar(CVMArrayHandle target, double value) {
  return guarded([&] {
    Array& a = array_of(target);
    with_type(a, [&](auto* type) {
      using T = std::remove_pointer_t<decltype(type)>;
      std::fill_n(static_cast<T*>(a.view.data), elements(a), convert<T>(value));
    });
  });
}

int CVMAssignAllND(CVMArrayHandle target, CVMArrayHandle source) {
  return guarded([&] {
    Array &to = array_of(target), &from = array_of(source);
    const auto &a = to.view.dtype, &b = from.view.dtype;
    if (a.code != b.code || a.bits != b.bits || a.lanes != b.lanes)
      logic_error("source and target have different element types");
    check_bytes(to, static_cast<uint64_t>(bytes_of(from)));
    if (&to != &from) copy_bytes(to.view.data, from.view.data, bytes_of(to));
  });
}

int CVMAssignSliceScalar(CVMArrayHandle target, int* indices, double value) {
  return guarded([&] {
    Array& a = array_of(target);
    Slice slice = read_slice(a, indices);
    for (size_t k = 0; k < slice.extent.size(); ++k)  // once is enough for elements that are met again and again
      if (slice.step[k] == 0) slice.extent[k] = std::min<int64_t>(slice.extent[k], 1);
    with_type(a, [&](auto* type) {
      using T = std::remove_pointer_t<decltype(type)>;
      T* data = static_cast<T*>(a.view.data);
      for_each_element(a, slice, [&](int64_t to, int64_t) { data[to] = convert<T>(value); });
    });
  });
}

int CVMAssignSliceND(CVMArrayHandle target, int* indices, CVMArrayHandle source) {
  return guarded([&] {
    Array &a = array_of(target), &b = array_of(source);
    const Slice slice = read_slice(a, indices);
    if (elements(b) != slice.size())
      logic_error("the source has ", elements(b), " elements, the slice ", slice.size());
    with_type(a, [&](auto* to_type) {
      with_type(b, [&](auto* from_type) {
        using To = std::remove_pointer_t<decltype(to_type)>;
        using From = std::remove_pointer_t<decltype(from_type)>;
        To* out = static_cast<To*>(a.view.data);
        const From* in = static_cast<const From*>(b.view.data);
        for_each_element(a, slice, [&](int64_t to, int64_t i) { out[to] = convert<To>(in[i]); });
      });
    });
  });
}

}  // extern "C"
