// Two handles, everything at once: runs, changes of the number of threads, of
// a model and of the process, queries, other loads, and forks whose children
// run. For ThreadSanitizer, which sees more here than under Python, whose own
// lock orders most calls.
//
//   race SYMBOL PARAMS INPUT     prints the numbers of runs and of children
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "c_api.h"

namespace {

constexpr int kModels = 2, kRunners = 4, kRuns = 30, kChildren = 10;
std::string symbol, params, input;

void require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "%s: %s\n", what, CVMGetLastError());
  std::exit(1);
}

std::string read_file(const char* path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

void* load(int device) {
  void* net = nullptr;
  const int status =
      CVMAPILoadModel(symbol.data(), static_cast<int>(symbol.size()), params.data(),
                      static_cast<int>(params.size()), &net, device, 0);
  require(status == 0, "load");
  return net;
}

std::string infer(void* net) {
  unsigned long long length = 0;
  require(CVMAPIGetOutputLength(net, &length) == 0, "length");
  std::string output(length, '\0'), data = input;
  require(CVMAPIInference(net, &data[0], static_cast<int>(data.size()), &output[0]) == 0, "run");
  return output;
}

}  // namespace

int main(int argc, char** argv) {
  require(argc == 4, "usage");
  symbol = read_file(argv[1]), params = read_file(argv[2]), input = read_file(argv[3]);
  require(CVMSetMaxThreads(4) == 0, "set");
  void* nets[kModels];
  for (void*& net : nets) net = load(CVM_DEVICE_CPU);
  const std::string expected = infer(nets[0]);
  std::atomic<int> running{kModels * kRunners}, runs{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kModels * kRunners; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < kRuns; ++i, ++runs) require(infer(nets[t % kModels]) == expected, "result");
      --running;
    });
  for (void* net : nets)
    threads.emplace_back([&, net] {
      for (int i = 0; running > 0; ++i) {
        int count = 0;
        require(CVMModelSetThreads(net, i % 4 + 1) == 0, "set");
        require(CVMModelGetThreads(net, &count) == 0 && count >= 1 && count <= 4, "get");
        std::this_thread::yield();
      }
    });
  threads.emplace_back([&] {
    while (running > 0) {
      unsigned long long gas = 0;
      CVMNodeInfo node;
      require(CVMAPIGetGasFromModel(nets[0], &gas) == 0 && gas > 0, "gas");
      require(CVMModelGetNode(nets[0], 0, &node) == 0, "node");
      require(CVMAPIFreeModel(load(CVM_DEVICE_FORMAL)) == 0, "free");
    }
  });
  threads.emplace_back([&] {
    for (int i = 0; running > 0; ++i) {
      int count = 0;
      require(CVMSetMaxThreads(i % 4 + 1) == 0 && CVMSetIdleContexts(i % 3) == 0, "set");
      require(CVMGetMaxThreads(&count) == 0 && count >= 1 && count <= 4, "get");
      std::this_thread::yield();
    }
  });
  for (int i = 0; i < kChildren; ++i) {
    const pid_t child = fork();
    require(child >= 0, "fork");
    if (child == 0) {
      alarm(60);
      require(CVMSetMaxThreads(3) == 0 && CVMModelSetThreads(nets[0], 3) == 0, "set");
      for (void* net : nets) require(infer(net) == expected && CVMAPIFreeModel(net) == 0, "child");
      _exit(0);
    }
    int status = 0;
    require(waitpid(child, &status, 0) == child && status == 0, "child");
  }
  for (std::thread& thread : threads) thread.join();
  for (void* net : nets) require(CVMAPIFreeModel(net) == 0, "free");
  std::printf("%d runs, %d children\n", runs.load(), kChildren);
}
