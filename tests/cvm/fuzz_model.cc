// libFuzzer target: arbitrary bytes as a model.
//
//   cmake -B build/fuzz -DCVM_FUZZ=ON -DCMAKE_CXX_COMPILER=clang++
//   cmake --build build/fuzz && build/fuzz/fuzz_model CORPUS
//
// The text up to the first 0 byte is the symbol, the rest the params. Both
// executors must load it with the same status, and run it to the same bytes.
// Seeds and a dictionary come from tests/cvm/fuzz_corpus.py.
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "c_api.h"

namespace {

constexpr unsigned long long kMaxWork = 3000000;     // gas of a model that is run
constexpr unsigned long long kMaxLoaded = 300000000;  // of one that is loaded

unsigned long long size_of(int (*get)(void*, unsigned long long*), void* net) {
  unsigned long long size = 0;
  if (get(net, &size) != 0) std::abort();
  return size;
}

// The params alone, as the array interface reads them.
void load_params(const std::string& params) {
  int count = 0;
  const char** names = nullptr;
  void** values = nullptr;
  if (CVMLoadParamsDict(params.data(), static_cast<int>(params.size()), &count, &names, &values) != 0)
    return;
  for (int i = 0; i < count; ++i) CVMArrayFree(static_cast<CVMArrayHandle>(values[i]));
}

// Status and output of one run.
std::string run(void* net) {
  std::vector<char> input(size_of(CVMAPIGetInputLength, net));
  std::vector<char> output(size_of(CVMAPIGetOutputLength, net));
  for (size_t i = 0; i < input.size(); ++i) input[i] = static_cast<char>(i * 37);
  output.reserve(1);
  const int status =
      CVMAPIInference(net, input.data(), static_cast<int>(input.size()), output.data());
  return std::to_string(status) + std::string(output.begin(), output.end());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  const size_t cut = bytes.find('\0');
  const std::string symbol = bytes.substr(0, cut);
  const std::string params = cut == std::string::npos ? "" : bytes.substr(cut + 1);
  load_params(params);
  unsigned long long gas = 0;
  const bool has_cost = CVMAPIGetGasFromGraphFile(symbol.c_str(), &gas) == 0;
  if (has_cost && gas > kMaxLoaded) return 0;
  std::string results[2];
  for (int device : {CVM_DEVICE_FORMAL, CVM_DEVICE_CPU}) {
    void* net = nullptr;
    const int status =
        CVMAPILoadModel(symbol.data(), static_cast<int>(symbol.size()), params.data(),
                        static_cast<int>(params.size()), &net, device, 0);
    // Beyond the limit of the cost a model may load, but would run for days.
    const bool runs = status == 0 && has_cost && gas <= kMaxWork;
    std::string& result = results[device == CVM_DEVICE_CPU];
    result = runs ? run(net) : std::to_string(status);
    CVMAPIFreeModel(net);
  }
  if (results[0] != results[1]) std::abort();
  return 0;
}
