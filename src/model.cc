#include "model.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <mutex>
#include <type_traits>

#include "cpu/kernels.h"
#include "cpu/steps.h"
#include "element_type.h"
#include "error.h"
#include "graph/params.h"
#include "ops/arith.h"
#include "output.h"
#include "plan/liveness.h"
#include "process.h"
#include "verify/verify.h"

namespace cvm {

// A step of the plan, bound to what runs it: a node's kernel or a fused step.
struct Model::Step {
  int64_t node;
  std::unique_ptr<Kernel> kernel;
  std::vector<int64_t> in, out;  // entries of the kernel
  std::unique_ptr<CpuStep> fused;
};

// All that one run writes to.
struct Model::Context {
  explicit Context(int most) : threads(most) {}
  const int threads;  // that may use it at once
  AlignedBlock arena, scratch;
  std::vector<const int32_t*> values;  // per entry
  std::vector<const int32_t*> in;      // inputs, then outputs, of all steps in a row
  std::vector<int32_t*> out;
};

// A context for one run, given back on every way out.
class Model::ContextLease {
 public:
  explicit ContextLease(Model& model) : model_(model), context_(model.take_context()) {}
  ~ContextLease() { model_.give_back(std::move(context_)); }
  Context& operator*() const { return *context_; }

 private:
  Model& model_;
  std::unique_ptr<Context> context_;
};

Model::~Model() = default;

namespace {

// A fused plan may take that many times the declared storage, for padding and
// copies, and a little more; if it wants to, all nodes run as kernels instead.
constexpr int64_t kMaxGrowth = 2;
constexpr int64_t kSmallArena = 1 << 20;

int thread_count(int asked) { return asked == 0 ? max_threads() : std::min(asked, kMaxThreads); }

Device known_device(int device) {
  if (device == static_cast<int>(Device::kGpu))
    runtime_error("device 1 (gpu) is not built into this library; use 0 (cpu) or 2 (formal)");
  if (device != static_cast<int>(Device::kCpu) && device != static_cast<int>(Device::kFormal))
    runtime_error("device ", device, " is unknown; expected 0 (cpu), 1 (gpu) or 2 (formal)");
  return static_cast<Device>(device);
}

// Step 13: aliases have a cost, but nothing to run.
void check_kernels(const Graph& graph) {
  for (const Node& node : graph.nodes)
    if (node.by_alias)
      logic_error(describe(graph, node), ": no kernel is registered under the name ",
                  quoted(node.function));
}

}  // namespace

std::unique_ptr<Model> Model::load(const char* symbol, size_t symbol_length, const char* params,
                                   size_t params_length, int device_code) {
  const Device device = known_device(device_code);
  idle_contexts();  // a setting that cannot be read is an error of the load, as in thread_count
  std::unique_ptr<Model> model(new Model);
  model->graph_ = read_graph(symbol, symbol_length);
  check_kernels(model->graph_);
  model->storage_bytes_ = verify_storage(model->graph_);
  model->find_input();
  model->size_output();
  const Params values = model->read_parameters(params, params_length);
  model->make_steps(device, values);
  model->keep_parameters(values);
  model->threads_ = thread_count(device == Device::kFormal ? 1 : 0);
  // The first context now: lack of memory is then an error of the load.
  model->idle_.push_back(model->make_context(model->threads_));
  return model;
}

// Step 15.
void Model::find_input() {
  if (graph_.heads.empty()) logic_error("symbol: the list of heads is empty");
  for (const Node& node : graph_.nodes) {
    if (!node.is_variable || node.name != kInputName) continue;
    input_entry_ = node.first_entry;
    return;
  }
  runtime_error("symbol: no variable is named '", kInputName, "', the name of the input");
}

void Model::size_output() {
  output_type_size_ = cvm::output_type_size(graph_);
  output_length_ = cvm::output_length(graph_);
}

namespace {

void check_type(const ParamTensor& t) {
  if (t.device_type != 1) {
    // An existing host device is the model's fault, any other this machine's.
    constexpr int kFormalArray = 3;
    if (t.device_type == kFormalArray) logic_error("is for device 3 (formal), expected 1 (cpu)");
    runtime_error("is for device ", t.device_type, ", expected 1 (cpu)");
  }
  if (t.type_code != 0 || t.lanes != 1 || (t.bits != 8 && t.bits != 32))
    logic_error("has element type code ", int{t.type_code}, ", ", int{t.bits}, " bits, ", t.lanes,
                " lanes, expected code 0 (integer), 8 or 32 bits, 1 lane");
}

void check_values(const Param& values, int precision) {
  const int32_t bound = int_max(precision);
  int32_t low = 0, high = 0;  // first the common case, at once
  for (int64_t i = 0; i < values.count; ++i)
    low = std::min(low, values[i]), high = std::max(high, values[i]);
  if (low >= -bound && high <= bound) return;
  for (int64_t i = 0; i < values.count; ++i)
    if (values[i] > bound || values[i] < -bound)
      logic_error("has the value ", values[i], " at element ", i, ", outside of -", bound, "..",
                  bound, ", the range of precision ", precision);
}

}  // namespace

// Steps 16 and 17.
Params Model::read_parameters(const char* params, size_t length) const {
  std::map<std::string, int64_t> variables;
  for (const Node& node : graph_.nodes)
    if (node.is_variable) variables[node.name] = node.first_entry;
  Params values(graph_.shapes.size());
  for (const ParamTensor& t : parse_params(params, length)) {
    const auto it = variables.find(t.name);
    if (it == variables.end())
      runtime_error("params: tensor ", quoted(t.name), " at byte ", t.offset,
                    " names no variable of the graph");
    const int64_t entry = it->second;
    const Shape& shape = graph_.shapes[entry];
    try {
      check_type(t);
      if (t.shape != shape)
        logic_error("has shape ", to_string(t.shape), ", expected ", to_string(shape));
      if (t.name == kInputName) continue;  // every run overwrites it
      values[entry] = {t.data, t.bits, size_of(shape)};
      check_values(values[entry], static_cast<int>(graph_.precisions[entry]));
    } catch (const Error& e) {
      throw Error(e.status(), concat("params: tensor ", quoted(t.name), " at byte ", t.offset, " ",
                                     e.text()));
    }
  }
  for (const auto& [name, entry] : variables)
    if (name != kInputName && !values[entry])
      logic_error("params: the variable ", quoted(name), " has no tensor");
  return values;
}

void Model::make_steps(Device device, const Params& params) {
  const bool fuses = device == Device::kCpu;
  plan_ = fuses ? plan_fused(graph_, params) : plan_kernels(graph_);
  if (fuses && plan_.bytes > kMaxGrowth * storage_bytes_ + kSmallArena) plan_ = plan_kernels(graph_);
  for (const cvm::Step& planned : plan_.steps) {
    auto step = std::make_unique<Step>();
    step->node = planned.node;
    if (planned.kind == cvm::Step::Kind::kKernel) {
      const Node& node = graph_.nodes[planned.node];
      step->in = node.input_entries;
      for (int k = 0; k < node.num_outputs; ++k) step->out.push_back(node.first_entry + k);
      if (fuses) step->kernel = make_cpu_kernel(*node.op, graph_.info(node));
      if (!step->kernel) step->kernel = make_reference_kernel(*node.op, graph_.info(node));
    } else {
      const int64_t plain = planned.entry < 0 ? kNoOffset : plan_.offset[planned.entry];
      step->fused = make_cpu_step(planned, plain, isa());
    }
    steps_.push_back(std::move(step));
  }
  pack_weights();
}

void Model::pack_weights() {
  int64_t bytes = 0;
  for (const auto& step : steps_)
    if (step->fused) bytes += align_up(step->fused->packed_bytes());
  weights_ = AlignedBlock(bytes);
  char* to = weights_.data();
  for (const auto& step : steps_) {
    if (!step->fused) continue;
    step->fused->pack(to);
    to += align_up(step->fused->packed_bytes());
  }
  plan_.weights.clear();
}

// Those that a kernel or the caller reads.
void Model::keep_parameters(const Params& params) {
  parameters_.resize(params.size());
  const auto keep = [&](int64_t entry) {
    const Param& values = params[entry];
    if (!values || parameters_[entry]) return;
    AlignedBlock block(values.count * static_cast<int64_t>(sizeof(int32_t)));
    for (int64_t i = 0; i < values.count; ++i) block.as<int32_t>()[i] = values[i];
    parameters_[entry] = std::move(block);
  };
  for (const auto& step : steps_)
    for (int64_t e : step->in) keep(e);
  for (size_t k = 0; k < graph_.heads.size(); ++k) keep(head_entry(k));
}

std::unique_ptr<Model::Context> Model::make_context(int threads) const {
  auto context = std::make_unique<Context>(threads);
  context->arena = AlignedBlock(plan_.bytes);
  int64_t scratch = 0;
  for (const auto& step : steps_)
    scratch = std::max(scratch, step->fused ? threads * step->fused->scratch_bytes()
                                            : step->kernel->scratch_bytes(threads));
  context->scratch = AlignedBlock(scratch);
  for (int64_t e = 0; e < graph_.num_entries(); ++e) {
    const int64_t offset = plan_.offset[e];
    context->values.push_back(
        offset == kNoOffset ? parameters_[e].as<int32_t>()
                            : reinterpret_cast<int32_t*>(context->arena.data() + offset));
  }
  for (const auto& step : steps_) {
    for (int64_t e : step->in) context->in.push_back(context->values[e]);
    for (int64_t e : step->out)
      context->out.push_back(
          reinterpret_cast<int32_t*>(context->arena.data() + plan_.offset[e]));
  }
  return context;
}

// Of this process: what its parent was about when it forked has no end here.
int& Model::runs() {
  if (process_ != forks()) process_ = forks(), runs_ = 0;
  return runs_;
}

std::unique_ptr<Model::Context> Model::take_context() {
  std::unique_ptr<Context> context;
  std::unique_lock<std::mutex> lock(process_mutex());
  if (!idle_.empty()) {
    context = std::move(idle_.back());
    idle_.pop_back();
  } else {
    const int threads = threads_;
    lock.unlock();
    context = make_context(threads);
    lock.lock();
  }
  idle_.reserve(idle_.size() + static_cast<size_t>(runs()) + 1);  // giving back must not fail
  ++runs();
  return context;
}

void Model::give_back(std::unique_ptr<Context> context) {
  {
    const std::lock_guard<std::mutex> lock(process_mutex());
    --runs();
    if (context->threads == threads_) idle_.push_back(std::move(context));
    if (idle_.size() <= most_idle()) return;
  }
  while (take_spare()) {
  }
}

// Of the contexts at rest, as many are kept as runs are under way: callers that
// come and go find one, and of a burst few are left.
size_t Model::most_idle() { return static_cast<size_t>(std::max(idle_contexts(), runs())); }

// One that is not kept, to be freed without the lock.
std::unique_ptr<Model::Context> Model::take_spare() {
  const std::lock_guard<std::mutex> lock(process_mutex());
  if (idle_.size() <= most_idle()) return nullptr;
  std::unique_ptr<Context> spare = std::move(idle_.back());
  idle_.pop_back();
  return spare;
}

void Model::set_threads(int threads) {
  if (threads < 0) logic_error("the number of threads is ", threads, ", expected 0 or more");
  const int count = thread_count(threads);
  std::vector<std::unique_ptr<Context>> old;  // freed without the lock
  const std::lock_guard<std::mutex> lock(process_mutex());
  threads_ = count;
  old.swap(idle_);
}

int Model::threads() const {
  const std::lock_guard<std::mutex> lock(process_mutex());
  return threads_;
}

void Model::execute(Context& context, double* seconds) const {
  using Clock = std::chrono::steady_clock;
  Team team(thread_pool(), context.threads);
  if (seconds) std::fill_n(seconds, graph_.nodes.size(), 0.0);
  const int32_t* const* in = context.in.data();
  int32_t* const* out = context.out.data();
  const auto run = [&](const Step& step, Span images) {
    const auto start = seconds ? Clock::now() : Clock::time_point();
    if (step.fused)
      step.fused->run(images, context.arena.data(), context.scratch.data(), team);
    else
      step.kernel->run({in, out, context.scratch.data()}, team);
    if (seconds)
      seconds[step.node] += std::chrono::duration<double>(Clock::now() - start).count();
    in += step.in.size();
    out += step.out.size();
  };
  for (int64_t i = 0; i < plan_.images; ++i)
    for (size_t s = 0; s < plan_.by_image; ++s) run(*steps_[s], {i, i + 1});
  for (size_t s = plan_.by_image; s < steps_.size(); ++s) run(*steps_[s], {0, plan_.steps[s].dims.n});
}

namespace {

template <class T>
int32_t clamped(T value, int32_t bound) {
  if constexpr (std::is_floating_point_v<T>)
    return static_cast<int32_t>(std::clamp<double>(value, -bound, bound));
  else if constexpr (std::numeric_limits<T>::digits < 32)  // the types that matter, 32 bits at a time
    return clamp_to(value, bound);
  else if constexpr (std::is_unsigned_v<T>)
    return static_cast<int32_t>(std::min<uint64_t>(value, static_cast<uint64_t>(bound)));
  else
    return static_cast<int32_t>(std::clamp<int64_t>(value, -bound, bound));
}

template <class T>
void check_integer(T value, int64_t i) {
  if constexpr (std::is_floating_point_v<T>)
    if (!std::isfinite(value) || value != std::trunc(value))
      logic_error("element ", i, " of the input is ", value, ", expected integers");
}

}  // namespace

// The data may lie anywhere, on no boundary.
void Model::store_input(const Elements& input, const Context& context) const {
  auto* const to = const_cast<int32_t*>(context.values[input_entry_]);  // it lies in the context's own arena
  const auto* const from = static_cast<const char*>(input.data);
  const auto count = static_cast<int64_t>(input.count);
  const int32_t bound = int_max(input_precision());
  with_type(input.code, input.bits, [&](auto* type) {
    using T = std::remove_pointer_t<decltype(type)>;
    for (int64_t i = 0; i < count; ++i) {
      T value;
      std::memcpy(&value, from + i * static_cast<int64_t>(sizeof(T)), sizeof(T));
      check_integer(value, i);
      to[i] = clamped(value, bound);
    }
  });
}

void Model::infer(const char* input, int64_t length, char* output) {
  if (length != input_length())
    logic_error("the input has ", length, " bytes, expected ", input_length(), " for shape ",
                to_string(input_shape()), " of ", input_type_size(), "-byte elements");
  ContextLease lease(*this);
  Context& context = *lease;
  store_input({input, static_cast<uint64_t>(size_of(input_shape())), kInt, 8 * input_type_size()}, context);
  execute(context, nullptr);
  write_output(context, output);
}

void Model::write_output(const Context& context, char* output) const {
  std::vector<const int32_t*> heads;
  for (size_t k = 0; k < graph_.heads.size(); ++k) heads.push_back(context.values[head_entry(k)]);
  cvm::write_output(graph_, heads, output);
}

void Model::run(const Elements& input, int32_t* const* outputs, double* seconds) {
  const int64_t expected = size_of(input_shape());
  if (input.count != static_cast<uint64_t>(expected))
    logic_error("the input has ", input.count, " elements, expected ", expected, " for shape ",
                to_string(input_shape()));
  ContextLease lease(*this);
  Context& context = *lease;
  store_input(input, context);
  execute(context, seconds);
  for (size_t k = 0; k < graph_.heads.size(); ++k) {
    const int64_t e = head_entry(k);
    std::copy_n(context.values[e], size_of(graph_.shapes[e]), outputs[k]);
  }
}

}  // namespace cvm
