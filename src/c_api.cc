#include "c_api.h"

#include <algorithm>
#include <cstring>

#include "c_api_guard.h"
#include "element_type.h"
#include "model.h"
#include "process.h"
#include "verify/verify.h"

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "model files and buffers are little-endian and read as they are");

namespace cvm {
namespace {

thread_local std::string last_error;

// Text copied into the caller's 34 bytes.
void copy_text(const std::string& text, char* to) {
  constexpr size_t kLongest = 32;
  const size_t length = std::min(text.size(), kLongest);
  std::memcpy(to, text.data(), length);
  to[length] = '\0';
}

Model& model_of(void* net) { return *static_cast<Model*>(net); }

template <class Get>
int get_size(void* net, unsigned long long* out, Get get) {
  return guarded([&] {
    require(net, out);
    *out = static_cast<unsigned long long>(get(model_of(net)));
  });
}

CVMTensorInfo tensor_info(const Graph& graph, int64_t entry) {
  CVMTensorInfo info{};
  const Shape& shape = graph.shapes[entry];
  info.ndim = static_cast<int32_t>(shape.size());
  info.precision = static_cast<int32_t>(graph.precisions[entry]);
  std::copy(shape.begin(), shape.end(), info.shape);
  return info;
}

CVMNodeInfo node_info(const Graph& graph, const Node& n) {
  return {n.name.c_str(), n.is_variable ? "null" : n.op->name,
          static_cast<unsigned long long>(node_cost(graph, n).total()),
          static_cast<int32_t>(n.inputs.size()), n.num_outputs};
}

void check_index(int index, size_t count, const char* what) {
  if (index < 0 || static_cast<size_t>(index) >= count)
    logic_error(what, " ", index, " does not exist; there are ", count);
}

}  // namespace

int fail(Status status, const char* text) noexcept {
  // A part of a message may come from a file, and nobody reads more than that.
  constexpr size_t kLongest = 1000;
  try {
    last_error.assign(text, strnlen(text, kLongest + 1));
    if (last_error.size() > kLongest) last_error.replace(kLongest - 3, std::string::npos, "...");
  } catch (...) {
    last_error.clear();
  }
  return static_cast<int>(status);
}

}  // namespace cvm

using namespace cvm;

extern "C" {

int CVMAPILoadModel(const char* graph_json, int graph_strlen, const char* param_bytes,
                    int param_strlen, void** net, int device_type, int /*device_id*/) {
  return guarded([&] {
    require(graph_json, param_bytes, net);
    if (graph_strlen < 0 || param_strlen < 0) runtime_error("a length is negative");
    *net = Model::load(graph_json, static_cast<size_t>(graph_strlen), param_bytes,
                       static_cast<size_t>(param_strlen), device_type)
               .release();
  });
}

int CVMAPIFreeModel(void* net) {
  return guarded([&] { delete static_cast<Model*>(net); });
}

int CVMAPIInference(void* net, char* input_data, int input_len, char* output_data) {
  return guarded([&] {
    require(net, input_data, output_data);
    model_of(net).infer(input_data, input_len, output_data);
  });
}

int CVMAPIGetVersion(void* net, char* version) {
  return guarded([&] {
    require(net, version);
    copy_text(model_of(net).graph().version, version);
  });
}

int CVMAPIGetPreprocessMethod(void* net, char* method) {
  return guarded([&] {
    require(net, method);
    copy_text(model_of(net).graph().postprocess, method);
  });
}

int CVMAPIGetInputLength(void* net, unsigned long long* size) {
  return get_size(net, size, [](const Model& m) { return m.input_length(); });
}

int CVMAPIGetOutputLength(void* net, unsigned long long* size) {
  return get_size(net, size, [](const Model& m) { return m.output_length(); });
}

int CVMAPIGetInputTypeSize(void* net, unsigned long long* size) {
  return get_size(net, size, [](const Model& m) { return m.input_type_size(); });
}

int CVMAPIGetOutputTypeSize(void* net, unsigned long long* size) {
  return get_size(net, size, [](const Model& m) { return m.output_type_size(); });
}

int CVMAPIGetStorageSize(void* net, unsigned long long* size) {
  return get_size(net, size, [](const Model& m) { return m.storage_bytes(); });
}

int CVMAPIGetGasFromModel(void* net, unsigned long long* gas) {
  return get_size(net, gas, [](const Model& m) { return cost(m.graph()); });
}

int CVMAPIGetGasFromGraphFile(const char* graph_json, unsigned long long* gas) {
  return guarded([&] {
    require(graph_json, gas);
    const Graph graph = read_graph(graph_json, std::strlen(graph_json));
    *gas = static_cast<unsigned long long>(cost(graph));
  });
}

const char* CVMGetLastError(void) { return last_error.c_str(); }

const char* CVMGetLibraryVersion(void) { return CVM_VERSION; }

int CVMModelGetInput(void* net, CVMTensorInfo* info) {
  return guarded([&] {
    require(net, info);
    *info = tensor_info(model_of(net).graph(), model_of(net).input_entry());
  });
}

int CVMModelGetNumOutputs(void* net, int* num) {
  return guarded([&] {
    require(net, num);
    *num = static_cast<int>(model_of(net).graph().heads.size());
  });
}

int CVMModelGetOutput(void* net, int index, CVMTensorInfo* info) {
  return guarded([&] {
    require(net, info);
    const Graph& graph = model_of(net).graph();
    check_index(index, graph.heads.size(), "output");
    *info = tensor_info(graph, graph.entry_id(graph.heads[index]));
  });
}

int CVMModelGetNumNodes(void* net, int* num) {
  return guarded([&] {
    require(net, num);
    *num = static_cast<int>(model_of(net).graph().nodes.size());
  });
}

int CVMModelGetNode(void* net, int node, CVMNodeInfo* info) {
  return guarded([&] {
    require(net, info);
    const Graph& graph = model_of(net).graph();
    check_index(node, graph.nodes.size(), "node");
    *info = node_info(graph, graph.nodes[node]);
  });
}

int CVMModelGetNodeOutput(void* net, int node, int index, CVMTensorInfo* info) {
  return guarded([&] {
    require(net, info);
    const Graph& graph = model_of(net).graph();
    check_index(node, graph.nodes.size(), "node");
    const Node& n = graph.nodes[node];
    check_index(index, static_cast<size_t>(n.num_outputs), "output");
    *info = tensor_info(graph, n.first_entry + index);
  });
}

int CVMModelGetOutputs(void* net, CVMTensorInfo* infos) {
  return guarded([&] {
    require(net, infos);
    const Graph& graph = model_of(net).graph();
    for (const EntryRef& head : graph.heads) *infos++ = tensor_info(graph, graph.entry_id(head));
  });
}

int CVMModelGetNodes(void* net, CVMNodeInfo* infos) {
  return guarded([&] {
    require(net, infos);
    const Graph& graph = model_of(net).graph();
    for (const Node& node : graph.nodes) *infos++ = node_info(graph, node);
  });
}

int CVMModelGetNodeOutputs(void* net, CVMTensorInfo* infos) {
  return guarded([&] {
    require(net, infos);
    const Graph& graph = model_of(net).graph();
    for (int64_t e = 0; e < graph.num_entries(); ++e) *infos++ = tensor_info(graph, e);
  });
}

int CVMModelGetNodeInputs(void* net, int32_t* nodes) {
  return guarded([&] {
    require(net, nodes);
    for (const Node& node : model_of(net).graph().nodes)
      for (const EntryRef& input : node.inputs) *nodes++ = static_cast<int32_t>(input.node);
  });
}

int CVMModelGetArenaSize(void* net, unsigned long long* size) {
  return get_size(net, size, [](const Model& m) { return m.arena_bytes(); });
}

int CVMModelRun(void* net, const int32_t* input, uint64_t count, int32_t* const* outputs,
                double* node_seconds) {
  return CVMModelRunTyped(net, input, kInt, 32, count, outputs, node_seconds);
}

int CVMModelRunTyped(void* net, const void* input, int dtype_code, int dtype_bits, uint64_t count,
                     int32_t* const* outputs, double* node_seconds) {
  return guarded([&] {
    require(net, input, outputs);
    model_of(net).run({input, count, dtype_code, dtype_bits}, outputs, node_seconds);
  });
}

int CVMModelSetThreads(void* net, int threads) {
  return guarded([&] {
    require(net);
    model_of(net).set_threads(threads);
  });
}

int CVMModelGetThreads(void* net, int* threads) {
  return guarded([&] {
    require(net, threads);
    *threads = model_of(net).threads();
  });
}

int CVMSetMaxThreads(int threads) {
  return guarded([&] { set_max_threads(threads); });
}

int CVMGetMaxThreads(int* threads) {
  return guarded([&] {
    require(threads);
    *threads = max_threads();
  });
}

int CVMSetIdleContexts(int count) {
  return guarded([&] { set_idle_contexts(count); });
}

int CVMGetIdleContexts(int* count) {
  return guarded([&] {
    require(count);
    *count = idle_contexts();
  });
}

}  // extern "C"
