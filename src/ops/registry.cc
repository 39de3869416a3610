#include <map>

#include "ops/operator.h"

namespace cvm {

const std::vector<Operator>& all_operators() {
  static const std::vector<Operator> table = [] {
    std::vector<Operator> all;
    for (auto family : {nn_operators, elemwise_operators, broadcast_operators, reduce_operators,
                        transform_operators, vision_operators})
      for (Operator& op : family()) all.push_back(std::move(op));
    return all;
  }();
  return table;
}

const Operator* find_operator(const std::string& name) {
  static const std::map<std::string, const Operator*> by_name = [] {
    std::map<std::string, const Operator*> map;
    for (const Operator& op : all_operators()) {
      map[op.name] = &op;
      for (const char* alias : op.aliases) map[alias] = &op;
    }
    return map;
  }();
  const auto it = by_name.find(name);
  return it == by_name.end() ? nullptr : it->second;
}

}  // namespace cvm
