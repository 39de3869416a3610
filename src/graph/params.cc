#include "graph/params.h"

#include <cstring>

#include "error.h"

namespace cvm {
namespace {

constexpr uint64_t kListMagic = 0xF7E58D4F05049CB7u;
constexpr uint64_t kTensorMagic = 0xDD5E40F096B4A13Fu;

// A cursor that refuses to run past the end.
class Bytes {
 public:
  Bytes(const char* data, size_t length) : data_(data), length_(length) {}

  // Status of running out of bytes: the list's header is a logic error, a
  // tensor's record a runtime error.
  void set_shortage(Status status) { shortage_ = status; }
  size_t left() const { return length_ - at_; }
  size_t offset() const { return at_; }

  const char* take(uint64_t n, const char* what) {
    if (n > left())
      throw Error(shortage_, concat("params: ", what, " needs ", n, " bytes at byte ", at_, ", but ",
                                    left(), " are left"));
    const char* p = data_ + at_;
    at_ += n;
    return p;
  }

  // Little-endian, as is every machine this builds for (asserted in c_api.cc).
  template <class T>
  T read(const char* what) {
    T value;
    std::memcpy(&value, take(sizeof(T), what), sizeof(T));
    return value;
  }

 private:
  const char* data_;
  size_t length_, at_ = 0;
  Status shortage_ = Status::kLogic;
};

std::vector<ParamTensor> read_names(Bytes& in) {
  const auto magic = in.read<uint64_t>("the list header");
  if (magic != kListMagic) logic_error("params: the file does not start with the list magic");
  in.read<uint64_t>("the list header");
  const auto count = in.read<uint64_t>("the number of names");
  if (count > in.left() / sizeof(uint64_t))
    logic_error("params: ", count, " names announced at byte ", in.offset() - 8, ", but only ",
                in.left(), " bytes follow");
  std::vector<ParamTensor> tensors(count);
  for (ParamTensor& t : tensors) {
    const auto length = in.read<uint64_t>("the length of a name");
    t.name.assign(in.take(length, "a name"), length);
  }
  return tensors;
}

void read_shape(Bytes& in, int32_t rank, ParamTensor* t) {
  if (rank < 0 || static_cast<uint64_t>(rank) > in.left() / sizeof(int64_t))
    runtime_error("params: tensor ", quoted(t->name), " at byte ", t->offset, " has rank ", rank);
  for (int32_t i = 0; i < rank; ++i) t->shape.push_back(in.read<int64_t>("an extent"));
}

void read_elements(Bytes& in, ParamTensor* t) {
  t->bytes = in.read<int64_t>("the byte count of a tensor");
  int64_t expected = (t->bits * t->lanes + 7) / 8;
  bool fits = true;
  for (int64_t d : t->shape)
    fits = fits && d >= 0 && !__builtin_mul_overflow(expected, d, &expected);
  if (!fits || t->bytes != expected)
    runtime_error("params: tensor ", quoted(t->name), " at byte ", t->offset, " of shape ",
                  to_string(t->shape), " announces ", t->bytes, " bytes, which does not fit");
  t->data = in.take(static_cast<uint64_t>(t->bytes), "the elements of a tensor");
}

void read_tensor(Bytes& in, ParamTensor* t) {
  t->offset = in.offset();
  if (in.read<uint64_t>("a tensor header") != kTensorMagic)
    runtime_error("params: tensor ", quoted(t->name), " at byte ", t->offset,
                  " does not start with the tensor magic");
  in.read<uint64_t>("a tensor header");
  t->device_type = in.read<int32_t>("a tensor header");
  in.read<int32_t>("a tensor header");
  const auto rank = in.read<int32_t>("a tensor header");
  t->type_code = in.read<uint8_t>("a tensor header");
  t->bits = in.read<uint8_t>("a tensor header");
  t->lanes = in.read<uint16_t>("a tensor header");
  read_shape(in, rank, t);
  read_elements(in, t);
}

template <class T>
void append(std::string* out, T value) {
  out->append(reinterpret_cast<const char*>(&value), sizeof(T));
}

}  // namespace

std::vector<ParamTensor> parse_params(const char* data, size_t length) {
  if (length == 0) logic_error("params: the file is empty");
  Bytes in(data, length);
  std::vector<ParamTensor> tensors = read_names(in);
  const auto count = in.read<uint64_t>("the number of tensors");
  if (count != tensors.size())
    logic_error("params: ", tensors.size(), " names, but ", count, " tensors");
  in.set_shortage(Status::kRuntime);
  for (ParamTensor& t : tensors) read_tensor(in, &t);
  // What follows is ignored: the original's writer leaves stale bytes after
  // when it saves a smaller dictionary after a larger one, so models in use
  // have them.
  return tensors;
}

std::string format_params(const std::vector<ParamTensor>& tensors) {
  std::string out;
  append(&out, kListMagic);
  append(&out, uint64_t{0});
  append(&out, static_cast<uint64_t>(tensors.size()));
  for (const ParamTensor& t : tensors) {
    append(&out, static_cast<uint64_t>(t.name.size()));
    out += t.name;
  }
  append(&out, static_cast<uint64_t>(tensors.size()));
  for (const ParamTensor& t : tensors) {
    append(&out, kTensorMagic);
    append(&out, uint64_t{0});
    append(&out, t.device_type);
    append(&out, int32_t{0});
    append(&out, static_cast<int32_t>(t.shape.size()));
    append(&out, t.type_code);
    append(&out, t.bits);
    append(&out, t.lanes);
    for (int64_t d : t.shape) append(&out, d);
    append(&out, t.bytes);
    out.append(t.data, static_cast<size_t>(t.bytes));
  }
  return out;
}

}  // namespace cvm
