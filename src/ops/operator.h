// What the runtime knows of one operator, in one struct.
//
// Each family file (nn, elemwise, broadcast, reduce, transform, vision)
// defines its operators and returns them as a table; registry.cc joins the
// tables. Adding an operator touches one family file.
#pragma once

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

struct Operator {
  const char* name;
  std::vector<const char*> aliases = {};  // known to the cost query only
  int num_outputs = 1;
  bool in_place = false;  // an output may share its storage with an input

  // Number of inputs, given the attributes; a negative result -n means n or more.
  int (*arity)(const Attrs*) = nullptr;
  // Attributes from text; null for operators that take none.
  std::unique_ptr<Attrs> (*parse)(const AttrText&) = nullptr;
  // Output shapes; throws when the inputs or attributes do not allow any.
  std::vector<Shape> (*shape)(const NodeInfo&) = nullptr;
  // Output precisions; verification checks that they lie in 1..32.
  std::vector<int> (*precision)(const NodeInfo&) = nullptr;
  // Whether the outputs surely lie within those precisions; null: if all inputs do.
  bool (*sound)(const NodeInfo&) = nullptr;
  // Cost per element of output 0; null means 1.
  int64_t (*cost)(const NodeInfo&) = nullptr;
  // Bytes of working memory of the kernel; null means none.
  int64_t (*scratch)(const NodeInfo&) = nullptr;
  // The reference kernel: the plainest loop, and by definition right.
  void (*kernel)(const NodeInfo&, const Buffers&) = nullptr;
};

// Finds an operator by canonical name or alias; null when there is none.
const Operator* find_operator(const std::string& name);
const std::vector<Operator>& all_operators();

// The tables that the registry joins.
std::vector<Operator> nn_operators();
std::vector<Operator> elemwise_operators();
std::vector<Operator> broadcast_operators();
std::vector<Operator> reduce_operators();
std::vector<Operator> transform_operators();
std::vector<Operator> vision_operators();

}  // namespace cvm
