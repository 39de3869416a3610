#include "graph/graph.h"

namespace cvm {

NodeInfo Graph::info(const Node& node) const {
  NodeInfo info;
  info.attrs = node.attrs.get();
  for (int64_t e : node.input_entries) {
    info.in.push_back(shapes[e]);
    info.in_precision.push_back(static_cast<int>(precisions[e]));
    info.in_sound.push_back(sound[e]);
  }
  for (int k = 0; k < node.num_outputs; ++k) {
    info.out.push_back(shapes[node.first_entry + k]);
    info.out_precision.push_back(static_cast<int>(precisions[node.first_entry + k]));
  }
  return info;
}

}  // namespace cvm
