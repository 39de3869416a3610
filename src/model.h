// What a handle of the C interface points to: a verified model, ready to run.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "aligned.h"
#include "graph/graph.h"
#include "plan/kernel.h"
#include "plan/plan.h"

namespace cvm {

enum class Device { kCpu = 0, kGpu = 1, kFormal = 2 };

// Immutable after load but for its run contexts, which the process's lock
// guards; any number of threads may run one model.
class Model {
 public:
  // Throws Error; see verify/verify.h for the order of the checks.
  static std::unique_ptr<Model> load(const char* symbol, size_t symbol_length, const char* params,
                                     size_t params_length, int device);
  ~Model();

  const Graph& graph() const { return graph_; }
  int64_t input_entry() const { return input_entry_; }
  const Shape& input_shape() const { return graph_.shapes[input_entry_]; }
  int input_precision() const { return static_cast<int>(graph_.precisions[input_entry_]); }
  int input_type_size() const { return input_precision() <= 8 ? 1 : 4; }
  int64_t input_length() const { return size_of(input_shape()) * input_type_size(); }
  int64_t head_entry(size_t k) const { return graph_.entry_id(graph_.heads[k]); }
  int output_type_size() const { return output_type_size_; }
  int64_t output_length() const { return output_length_; }
  int64_t storage_bytes() const { return storage_bytes_; }
  int64_t arena_bytes() const { return plan_.bytes; }

  // Input and output bytes as in the model format; `output` has output_length().
  void infer(const char* input, int64_t length, char* output);
  // Elements of input_shape() in, of a type of element_type.h; one buffer per
  // head out. With `seconds`, stores the time of every node there.
  struct Elements {
    const void* data;
    uint64_t count;
    int code, bits;
  };
  void run(const Elements& input, int32_t* const* outputs, double* seconds);

  int threads() const;
  // At most so many compute at once in a run; 0 takes as many as the process has
  // (see process.h). Runs under way finish with the old number.
  void set_threads(int threads);

 private:
  struct Step;
  struct Context;
  class ContextLease;

  Model() = default;
  void find_input();
  void size_output();
  Params read_parameters(const char* params, size_t length) const;
  void make_steps(Device device, const Params& params);
  void pack_weights();
  void keep_parameters(const Params& params);
  std::unique_ptr<Context> make_context(int threads) const;
  std::unique_ptr<Context> take_context();
  void give_back(std::unique_ptr<Context> context);
  std::unique_ptr<Context> take_spare();
  size_t most_idle();
  int& runs();
  void store_input(const Elements& input, const Context& context) const;
  void execute(Context& context, double* seconds) const;
  void write_output(const Context& context, char* output) const;

  Graph graph_;
  int64_t input_entry_ = 0;
  int output_type_size_ = 4;
  int64_t output_length_ = 0;
  int64_t storage_bytes_ = 0;
  Plan plan_;
  std::vector<AlignedBlock> parameters_;  // per entry; empty blocks for those that nothing reads as they are
  std::vector<std::unique_ptr<Step>> steps_;
  AlignedBlock weights_;  // of the fused steps, packed

  // Under the lock of the process.
  std::vector<std::unique_ptr<Context>> idle_;
  int threads_ = 1;
  int runs_ = 0;  // under way, in the process of number process_
  int64_t process_ = 0;
};

}  // namespace cvm
