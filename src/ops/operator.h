// All that the runtime knows of one operator, in one row.
//
// Each family file (conv, elemwise, broadcast, ...) returns the rows of its
// operators; registry.cc joins them. Adding an operator touches one family
// file: nothing outside of this folder knows an operator by name.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "shape.h"

namespace cvm {

// Parsed attributes; every operator with attributes derives its own struct.
struct Attrs {
  virtual ~Attrs() = default;
};

using AttrText = std::map<std::string, std::string>;

// The static facts of one node: all that its rules and kernels may depend on.
struct NodeInfo {
  const Attrs* attrs = nullptr;
  std::vector<Shape> in, out;
  std::vector<int> in_precision, out_precision;
  // Whether every value surely lies in Int(precision). The precision rules of
  // a few operators promise too little (where, broadcast_greater, ...), and
  // what is not proven must not be narrowed by a fast kernel.
  std::vector<char> in_sound;

  template <class T>
  const T& as() const {
    return static_cast<const T&>(*attrs);
  }
};

// Data of one node at run time. Inputs and outputs coincide only for in-place
// operators. `scratch` has at least the bytes the kernel asked for.
struct Buffers {
  const int32_t* const* in;
  int32_t* const* out;
  void* scratch;
};

class Lowering;
class Loop;

// What a row says where an operator has no such thing.
constexpr std::nullptr_t kByKernel = nullptr;   // it is not lowered: it runs as a kernel
constexpr std::nullptr_t kOneThread = nullptr;  // it has no loop: the reference kernel runs

struct Operator {
  // Number of inputs, given the attributes; a negative result -n means n or more.
  using Arity = int (*)(const Attrs*);
  // Output shapes; throws when the inputs or attributes do not allow any.
  using ShapeRule = std::vector<Shape> (*)(const NodeInfo&);
  // Output precisions; verification checks that they lie in 1..32.
  using PrecisionRule = std::vector<int> (*)(const NodeInfo&);
  // The reference kernel: the plainest loop, and by definition right.
  using Kernel = void (*)(const NodeInfo&, const Buffers&);
  // The value of output 0 in primitives (lowering.h); -1 leaves the node to its kernel.
  using Lower = int (*)(Lowering&);
  // The fast kernel for any processor (loop.h); a null result leaves the node to the reference.
  using MakeLoop = std::unique_ptr<Loop> (*)(const NodeInfo&);

  // What every row has to say.
  Operator(const char* name, Arity arity, ShapeRule shape, PrecisionRule precision, Kernel kernel,
           Lower lower, MakeLoop loop)
      : name(name), arity(arity), shape(shape), precision(precision), kernel(kernel), lower(lower),
        loop(loop) {}

  const char* name;
  Arity arity;
  ShapeRule shape;
  PrecisionRule precision;
  Kernel kernel;
  Lower lower;
  MakeLoop loop;

  std::vector<const char*> aliases = {};  // known to the cost query only
  int num_outputs = 1;
  bool in_place = false;  // an output may share its storage with an input
  // Attributes from text; null for operators that take none.
  std::unique_ptr<Attrs> (*parse)(const AttrText&) = nullptr;
  // Whether the outputs surely lie within their precisions; null: if all inputs do.
  bool (*sound)(const NodeInfo&) = nullptr;
  // Cost per element of output 0; null means 1.
  int64_t (*cost)(const NodeInfo&) = nullptr;
  // Bytes of working memory of the kernel; null means none.
  int64_t (*scratch)(const NodeInfo&) = nullptr;
};

// Rules that many rows name.
template <int inputs>
int takes(const Attrs*) {
  return inputs;
}
inline std::vector<Shape> first_shape(const NodeInfo& n) { return {n.in[0]}; }
inline std::vector<int> first_precision(const NodeInfo& n) { return {n.in_precision[0]}; }
inline bool always_sound(const NodeInfo&) { return true; }

// Finds an operator by canonical name or alias; null when there is none.
const Operator* find_operator(const std::string& name);
const std::vector<Operator>& all_operators();

// The tables that the registry joins.
std::vector<Operator> broadcast_operators();
std::vector<Operator> concatenate_operators();
std::vector<Operator> conv_operators();
std::vector<Operator> elemwise_operators();
std::vector<Operator> pool_operators();
std::vector<Operator> reduce_operators();
std::vector<Operator> reshape_operators();
std::vector<Operator> select_operators();
std::vector<Operator> transform_operators();
std::vector<Operator> vision_operators();

}  // namespace cvm
