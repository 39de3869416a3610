#include <map>

#include "ops/operator.h"

namespace cvm {

namespace {

std::vector<Operator> make_table() {
  std::vector<Operator> all;
  for (auto family : {broadcast_operators, concatenate_operators, conv_operators,
                      elemwise_operators, pool_operators, reduce_operators, reshape_operators,
                      select_operators, transform_operators, vision_operators})
    for (Operator& op : family()) all.push_back(std::move(op));
  return all;
}

std::map<std::string, const Operator*> make_index(const std::vector<Operator>& table) {
  std::map<std::string, const Operator*> map;
  for (const Operator& op : table) {
    map[op.name] = &op;
    for (const char* alias : op.aliases) map[alias] = &op;
  }
  return map;
}

// Made when the library is loaded, not at first use: a child that was forked in
// the middle of that would wait for its end for ever.
const std::vector<Operator> table = make_table();
const std::map<std::string, const Operator*> by_name = make_index(table);

}  // namespace

const std::vector<Operator>& all_operators() { return table; }

const Operator* find_operator(const std::string& name) {
  const auto it = by_name.find(name);
  return it == by_name.end() ? nullptr : it->second;
}

}  // namespace cvm
