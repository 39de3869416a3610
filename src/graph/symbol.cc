#include "graph/symbol.h"

#include <limits>
#include <set>

#include "error.h"
#include "graph/json.h"

namespace cvm {
namespace {

constexpr int64_t kInt32Min = std::numeric_limits<int32_t>::min();
constexpr int64_t kInt32Max = std::numeric_limits<int32_t>::max();
constexpr int64_t kUint32Max = std::numeric_limits<uint32_t>::max();

template <class Read>
auto read_list(JsonReader& in, Read read_one) {
  std::vector<decltype(read_one())> items;
  in.begin_array();
  while (in.next_item(items.size())) items.push_back(read_one());
  return items;
}

std::vector<int64_t> read_ints(JsonReader& in, int64_t low, int64_t high) {
  return read_list(in, [&] { return in.read_int(low, high); });
}

// [node, output] or [node, output, version]; the version means nothing.
// Negative indices parse and are refused later, with the class of a bad index.
EntryRef read_entry(JsonReader& in) {
  auto items = read_ints(in, kInt32Min, kUint32Max);
  if (items.size() != 2 && items.size() != 3)
    runtime_error("symbol: an entry has ", items.size(), " items before byte ", in.offset(),
                  ", expected [node, output] or [node, output, version]");
  return {items[0], items[1]};
}

std::vector<EntryRef> read_entries(JsonReader& in) {
  return read_list(in, [&] { return read_entry(in); });
}

const std::set<std::string> kNodeAttrs = {"func_name", "num_inputs", "num_outputs", "flatten_data", "op_attrs"};

// The attrs of a node: only the operator name in it carries meaning.
std::string read_function_name(JsonReader& in, const std::string& where) {
  std::string key, name;
  bool found = false;
  in.begin_object();
  for (size_t count = 0; in.next_member(count, &key); ++count) {
    if (!kNodeAttrs.count(key))
      runtime_error("symbol: ", where, ": unknown key ", quoted(key), " in attrs before byte ",
                    in.offset());
    std::string value = in.read_string();
    if (key != "func_name") continue;
    name = std::move(value);
    found = true;
  }
  if (!found) logic_error("symbol: ", where, ": attrs lack the key 'func_name'");
  return name;
}

Node read_node(JsonReader& in, size_t index) {
  const std::string where = concat("node ", index);
  Node node;
  std::string key, kind;
  std::set<std::string> seen;
  in.begin_object();
  for (size_t count = 0; in.next_member(count, &key); ++count) {
    seen.insert(key);
    if (key == "op") {
      kind = in.read_string();
    } else if (key == "name") {
      node.name = in.read_string();
    } else if (key == "inputs") {
      node.inputs = read_entries(in);
    } else if (key == "attrs") {
      node.function = read_function_name(in, where);
    } else if (key == "precision") {
      in.read_int(kInt32Min, kInt32Max);
    } else {
      runtime_error("symbol: ", where, ": unknown key ", quoted(key), " before byte ", in.offset());
    }
  }
  for (const char* required : {"op", "name", "inputs"})
    if (!seen.count(required)) logic_error("symbol: ", where, " lacks the key '", required, "'");
  if (kind != "null" && kind != "cvm_op")
    logic_error("symbol: ", where, ": op is ", quoted(kind), ", expected 'null' or 'cvm_op'");
  node.is_variable = kind == "null";
  return node;
}

// Reads [tag, list]; `read` gets the list.
template <class Read>
void read_tagged(JsonReader& in, const std::string& key, const char* tag, Read read) {
  in.begin_array();
  if (!in.next_item(0)) in.fail("a type tag");
  const std::string found = in.read_string();
  if (found != tag)
    logic_error("symbol: attrs.", key, " has the type tag ", quoted(found), ", expected '", tag, "'");
  if (!in.next_item(1)) in.fail("a list after the type tag");
  read();
  in.end_array(2);
}

// "dtype" is a leftover of older writers: read and dropped. Its list_str form
// takes one number, a peculiarity that decides which files are accepted.
void skip_dtype(JsonReader& in) {
  in.begin_array();
  if (!in.next_item(0)) in.fail("a type tag");
  const std::string tag = in.read_string();
  if (tag != "list_int" && tag != "list_str")
    logic_error("symbol: attrs.dtype has the type tag ", quoted(tag), ", expected 'list_int'");
  if (!in.next_item(1)) in.fail("a list after the type tag");
  if (tag == "list_int")
    read_ints(in, kInt32Min, kInt32Max);
  else
    in.read_int(0, std::numeric_limits<int64_t>::max());
  in.end_array(2);
}

void read_graph_attrs(JsonReader& in, Graph* graph) {
  const auto ints = [&] { return read_ints(in, kInt32Min, kInt32Max); };
  const auto strings = [&] { return read_list(in, [&] { return in.read_string(); }); };
  std::string key;
  std::set<std::string> seen;
  in.begin_object();
  for (size_t count = 0; in.next_member(count, &key); ++count) {
    seen.insert(key);
    if (key == "op_attrs") {
      read_tagged(in, key, "list_str", [&] { graph->op_attrs = strings(); });
    } else if (key == "dltype") {
      read_tagged(in, key, "list_str", [&] { graph->dltypes = strings(); });
    } else if (key == "storage_id") {
      read_tagged(in, key, "list_int", [&] { graph->storage_id = ints(); });
    } else if (key == "precision") {
      read_tagged(in, key, "list_int", [&] { graph->precisions = ints(); });
    } else if (key == "device_index") {
      read_tagged(in, key, "list_int", [&] { graph->device_index = ints(); });
    } else if (key == "shape") {
      read_tagged(in, key, "list_shape", [&] {
        graph->shapes = read_list(in, [&] {
          return Shape(read_ints(in, std::numeric_limits<int64_t>::min(),
                                 std::numeric_limits<int64_t>::max()));
        });
      });
    } else if (key == "dtype") {
      skip_dtype(in);
    } else {
      runtime_error("symbol: unknown key ", quoted(key), " in the graph's attrs before byte ",
                    in.offset());
    }
  }
  for (const char* required : {"op_attrs", "storage_id", "shape"})
    if (!seen.count(required)) logic_error("symbol: attrs lack the key '", required, "'");
}

}  // namespace

Graph parse_symbol(const char* text, size_t length) {
  JsonReader in(text, length, "symbol");
  Graph graph;
  std::string key;
  std::set<std::string> seen;
  in.begin_object();
  for (size_t count = 0; in.next_member(count, &key); ++count) {
    seen.insert(key);
    if (key == "nodes") {
      size_t index = 0;
      graph.nodes = read_list(in, [&] { return read_node(in, index++); });
    } else if (key == "heads") {
      graph.heads = read_entries(in);
    } else if (key == "attrs") {
      read_graph_attrs(in, &graph);
    } else if (key == "arg_nodes") {
      graph.arg_nodes = read_ints(in, kInt32Min, kUint32Max);
    } else if (key == "node_row_ptr") {
      graph.node_row_ptr = read_ints(in, kInt32Min, kUint32Max);
    } else if (key == "version") {
      graph.version = in.read_string();
    } else if (key == "postprocess") {
      graph.postprocess = in.read_string();
    } else {
      runtime_error("symbol: unknown key ", quoted(key), " before byte ", in.offset());
    }
  }
  for (const char* required : {"nodes", "heads", "attrs"})
    if (!seen.count(required)) logic_error("symbol: the key '", required, "' is missing");
  return graph;
}

std::map<std::string, std::string> parse_op_attrs(const std::string& text) {
  JsonReader in(text.data(), text.size(), "op_attrs");
  std::map<std::string, std::string> attrs;
  std::string key;
  in.begin_object();
  for (size_t count = 0; in.next_member(count, &key); ++count) attrs[key] = in.read_string();
  return attrs;
}

}  // namespace cvm
