// Host-side costs measured from C++, so that no interpreter is in the loop. The driver is looked up at run
// time (it is already in the process), so this builds without its library.
// Build: c++ -O2 -std=c++17 -shared -fPIC host_timers.cpp -ldl
#include <dlfcn.h>

#include <chrono>
#include <cstdint>

using Handle = void*;
using clk = std::chrono::steady_clock;

namespace {
template <class F>
F driver(const char* name) {
  static void* library = dlopen("libcuda.so.1", RTLD_NOW);
  return library ? reinterpret_cast<F>(dlsym(library, name)) : nullptr;
}
double microseconds(clk::time_point from) {
  return std::chrono::duration<double, std::micro>(clk::now() - from).count();
}
}  // namespace

// How one call ends: not waited for inside the timed part, or waited for in one of three ways.
enum Wait { NONE = 0, SYNCHRONIZE = 1, QUERY = 2, FLAG = 3 };

// Times `count` graph launches one by one into out[] (microseconds). Returns the first driver error.
extern "C" int time_graph(Handle graph, Handle stream, int count, int wait, volatile uint32_t* flag, double* out) {
  auto launch = driver<int (*)(Handle, Handle)>("cuGraphLaunch");
  auto synchronize = driver<int (*)(Handle)>("cuStreamSynchronize");
  auto query = driver<int (*)(Handle)>("cuStreamQuery");
  if (!launch || !synchronize || !query) return -1;
  for (int i = 0; i < count; ++i) {
    const uint32_t before = flag ? *flag : 0;
    const auto start = clk::now();
    if (int error = launch(graph, stream)) return error;
    if (wait == SYNCHRONIZE) {
      if (int error = synchronize(stream)) return error;
    } else if (wait == QUERY) {
      while (query(stream) == 600) {  // CUDA_ERROR_NOT_READY
      }
    } else if (wait == FLAG) {
      while (*flag == before) {
      }
    }
    out[i] = microseconds(start);
    if (int error = synchronize(stream)) return error;
  }
  return 0;
}

// Mean microseconds of `count` graph launches queued without waiting; the wait at the end is counted.
extern "C" int time_graph_queue(Handle graph, Handle stream, int count, double* out) {
  auto launch = driver<int (*)(Handle, Handle)>("cuGraphLaunch");
  auto synchronize = driver<int (*)(Handle)>("cuStreamSynchronize");
  if (!launch || !synchronize) return -1;
  const auto start = clk::now();
  for (int i = 0; i < count; ++i)
    if (int error = launch(graph, stream)) return error;
  if (int error = synchronize(stream)) return error;
  *out = microseconds(start) / count;
  return 0;
}

// One kernel launch: the call alone (wait = NONE) or with its completion (SYNCHRONIZE).
extern "C" int time_launch(Handle function, unsigned blocks, unsigned threads, Handle stream, void** arguments,
                           int count, int wait, double* out) {
  using Launch = int (*)(Handle, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, Handle,
                         void**, void**);
  auto launch = driver<Launch>("cuLaunchKernel");
  auto synchronize = driver<int (*)(Handle)>("cuStreamSynchronize");
  if (!launch || !synchronize) return -1;
  for (int i = 0; i < count; ++i) {
    const auto start = clk::now();
    if (int error = launch(function, blocks, 1, 1, threads, 1, 1, 0, stream, arguments, nullptr)) return error;
    if (wait == SYNCHRONIZE)
      if (int error = synchronize(stream)) return error;
    out[i] = microseconds(start);
    if (int error = synchronize(stream)) return error;
  }
  return 0;
}
