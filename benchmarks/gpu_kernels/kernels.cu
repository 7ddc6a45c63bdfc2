// CUDA C++ kernels of gpu_constants.py. Build: nvcc -cubin -O3 -gencode=arch=compute_90a,code=sm_90a
//
// Every kernel that is timed also does work whose result is checked: a wrong synchronisation shows as a
// count in `errors`, not as a good time. Integer arithmetic, so that checks are exact.
#include <cooperative_groups.h>
#include <cstdint>

namespace cg = cooperative_groups;
using u32 = unsigned int;
using u64 = unsigned long long;

#define KERNEL extern "C" __global__ void
#define DEVICE static __device__ __forceinline__

// ---------------------------------------------------------------- memory operations with explicit ordering
DEVICE u32 load_acquire(const u32* p) {
  u32 v;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
  return v;
}
DEVICE u64 load_acquire(const u64* p) {
  u64 v;
  asm volatile("ld.acquire.gpu.global.u64 %0, [%1];" : "=l"(v) : "l"(p) : "memory");
  return v;
}
DEVICE u32 load_relaxed(const u32* p) {
  u32 v;
  asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
  return v;
}
DEVICE void store_release(u32* p, u32 v) {
  asm volatile("st.release.gpu.global.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
}
DEVICE void add_release(u32* p, u32 v) {
  asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory");
}
DEVICE void add_release(u64* p, u64 v) {
  asm volatile("red.release.gpu.global.add.u64 [%0], %1;" ::"l"(p), "l"(v) : "memory");
}
DEVICE u32 fetch_add_release(u32* p, u32 v) {
  u32 old;
  asm volatile("atom.release.gpu.global.add.u32 %0, [%1], %2;" : "=r"(old) : "l"(p), "r"(v) : "memory");
  return old;
}
// Volatile, so that the compiler keeps the loads where they stand and all of a batch in flight.
DEVICE uint4 load_l2(const uint4* p) {
  uint4 v;
  asm volatile("ld.global.cg.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p));
  return v;
}
DEVICE u64 global_timer() {
  u64 t;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(t));
  return t;
}
struct Stopwatch {  // out = {cycles, nanoseconds}
  u64 cycles = clock64(), nanoseconds = global_timer();
  __device__ __forceinline__ void stop(u64* out) const {
    out[0] = clock64() - cycles;
    out[1] = global_timer() - nanoseconds;
  }
};
DEVICE u32 cluster_rank() {
  u32 r;
  asm volatile("mov.u32 %0, %cluster_ctarank;" : "=r"(r));
  return r;
}
DEVICE u32 cluster_blocks() {
  u32 n;
  asm volatile("mov.u32 %0, %cluster_nctarank;" : "=r"(n));
  return n;
}
DEVICE void cluster_sync() {
  asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}
DEVICE u32 shared_address(const void* p) { return static_cast<u32>(__cvta_generic_to_shared(p)); }
DEVICE u32 remote_address(u32 local, u32 rank) {
  u32 a;
  asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(a) : "r"(local), "r"(rank));
  return a;
}

// ---------------------------------------------------------------- graph nodes
KERNEL empty_node() {}

// Keeps the stream busy while the host queues what is to be timed.
KERNEL spin(u64 nanoseconds) {
  const u64 start = global_timer();
  while (global_timer() - start < nanoseconds) {
  }
}

// Cycles of one SM over a known wall time: the clock the SM really runs at.
KERNEL clock_rate(u64 nanoseconds, u64* out) {
  const Stopwatch watch;
  while (global_timer() - watch.nanoseconds < nanoseconds) {
  }
  watch.stop(out);
}

// next = neighbour block's prev + 1: a chain of these counts its own length.
DEVICE void tiny_work(const u32* prev, u32* next, u32 n) {
  const u32 i = blockIdx.x * blockDim.x + threadIdx.x;
  u32 j = i + blockDim.x;
  if (j >= n) j -= n;
  next[i] = __ldcg(prev + j) + 1;
}
KERNEL tiny_node(const u32* prev, u32* next, u32 n) { tiny_work(prev, next, n); }
KERNEL tiny_pdl_implicit(const u32* prev, u32* next, u32 n) {
  asm volatile("griddepcontrol.wait;" ::: "memory");
  tiny_work(prev, next, n);
}
KERNEL tiny_pdl_start(const u32* prev, u32* next, u32 n) {
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
  asm volatile("griddepcontrol.wait;" ::: "memory");
  tiny_work(prev, next, n);
}
KERNEL tiny_pdl_end(const u32* prev, u32* next, u32 n) {
  asm volatile("griddepcontrol.wait;" ::: "memory");
  tiny_work(prev, next, n);
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

// Tells the host that it ran: lets the host poll memory instead of calling the driver.
KERNEL host_flag(u32* counter, u32* flag) {
  const u32 v = *counter + 1;
  *counter = v;
  __threadfence_system();
  *reinterpret_cast<volatile u32*>(flag) = v;
}
KERNEL add_one(const uint4* in, uint4* out, u32 vectors) {
  for (u32 i = blockIdx.x * blockDim.x + threadIdx.x; i < vectors; i += gridDim.x * blockDim.x) {
    uint4 v = in[i];
    v.x += 1;
    v.y += 1;
    v.z += 1;
    v.w += 1;
    out[i] = v;
  }
}

// ---------------------------------------------------------------- grid barriers
// Each policy starts from whatever the last launch left in memory: a graph replay needs no memset.
// Call sync() from all threads of all blocks; launch cooperatively.
struct CooperativeGroups {
  __device__ __forceinline__ void init(void*) {}
  __device__ __forceinline__ void sync() { cg::this_grid().sync(); }
};

template <class Word, int PAUSE = 0>
struct Counter {  // arrivals counted for ever; the target grows by the number of blocks
  Word *p, target;
  __device__ __forceinline__ void init(void* memory) {
    p = static_cast<Word*>(memory);
    if (threadIdx.x == 0) {
      const Word now = load_acquire(p);
      target = now - now % gridDim.x;
    }
  }
  __device__ __forceinline__ void arrive() {
    __syncthreads();
    if (threadIdx.x == 0) add_release(p, Word(1));
  }
  __device__ __forceinline__ void wait() {
    if (threadIdx.x == 0) {
      target += gridDim.x;
      while (load_acquire(p) < target) {
        if (PAUSE) __nanosleep(PAUSE);
      }
    }
    __syncthreads();
  }
  __device__ __forceinline__ void sync() {
    arrive();
    wait();
  }
};

struct CounterRelaxedPoll : Counter<u32> {  // cheap polls, one fence at the end
  __device__ __forceinline__ void sync() {
    __syncthreads();
    if (threadIdx.x == 0) {
      target += gridDim.x;
      add_release(p, 1u);
      while (load_relaxed(p) < target) {
      }
      asm volatile("fence.acq_rel.gpu;" ::: "memory");
    }
    __syncthreads();
  }
};

struct SignFlip {  // one 32-bit word, never overflows: the top bit flips when all have arrived
  u32* p;
  __device__ __forceinline__ void init(void* memory) { p = static_cast<u32*>(memory); }
  __device__ __forceinline__ void sync() {
    __syncthreads();
    if (threadIdx.x == 0) {
      const u32 old = fetch_add_release(p, blockIdx.x == 0 ? 0x80000000u - (gridDim.x - 1) : 1u);
      while (((load_acquire(p) ^ old) & 0x80000000u) == 0) {
      }
    }
    __syncthreads();
  }
};

struct FlagPerBlock {  // no atomics: every block publishes its round, every block reads all rounds
  u32 *flags, round;
  __device__ __forceinline__ void init(void* memory) {
    flags = static_cast<u32*>(memory);
    round = load_acquire(flags + blockIdx.x);
    __syncthreads();
  }
  __device__ __forceinline__ void arrive() {
    ++round;
    __syncthreads();
    if (threadIdx.x == 0) store_release(flags + blockIdx.x, round);
  }
  __device__ __forceinline__ void wait() {
    for (u32 i = threadIdx.x; i < gridDim.x; i += blockDim.x) {
      while (static_cast<int>(load_acquire(flags + i) - round) < 0) {
      }
    }
    __syncthreads();
  }
  __device__ __forceinline__ void sync() {
    arrive();
    wait();
  }
};

struct ClusterThenCounter {  // hardware barrier inside the cluster, one arrival per cluster outside
  u64 *p, target, clusters;
  bool leader;
  __device__ __forceinline__ void init(void* memory) {
    p = static_cast<u64*>(memory);
    clusters = gridDim.x / cluster_blocks();
    leader = cluster_rank() == 0 && threadIdx.x == 0;
    if (leader) {
      const u64 now = load_acquire(p);
      target = now - now % clusters;
    }
  }
  __device__ __forceinline__ void sync() {
    cluster_sync();
    if (leader) {
      target += clusters;
      add_release(p, 1ull);
      while (load_acquire(p) < target) {
      }
    }
    cluster_sync();
  }
};

// exchange = 0: barriers only. exchange = 1: each round also hands 128 words to the next block, which is
// what an edge between two stages needs (store, barrier, load from L2).
template <class Barrier>
DEVICE void barrier_loop(void* memory, u32* data, u32* errors, int rounds, int exchange) {
  Barrier barrier;
  barrier.init(memory);
  const u32 words = gridDim.x * 128;
  const u32 mine = blockIdx.x * 128 + threadIdx.x;
  const u32 theirs = ((blockIdx.x + 1) % gridDim.x) * 128 + threadIdx.x;
  u32 wrong = 0;
  for (int r = 0; r < rounds; ++r) {
    u32* buffer = data + (r & 1) * words;
    if (exchange && threadIdx.x < 128) buffer[mine] = r * 977u + blockIdx.x;
    barrier.sync();
    if (exchange && threadIdx.x < 128)
      wrong += __ldcg(buffer + theirs) != r * 977u + (blockIdx.x + 1) % gridDim.x;
  }
  if (wrong) atomicAdd(errors, wrong);
}
#define BARRIER_KERNEL(name, policy)                                                         \
  KERNEL __launch_bounds__(512, 2) name(void* memory, u32* data, u32* errors, int rounds, int exchange) { \
    barrier_loop<policy>(memory, data, errors, rounds, exchange);                            \
  }
BARRIER_KERNEL(barrier_cooperative_groups, CooperativeGroups)
BARRIER_KERNEL(barrier_counter_u32, Counter<u32>)
BARRIER_KERNEL(barrier_counter_u64, Counter<u64>)
using Pause20 = Counter<u64, 20>;
using Pause100 = Counter<u64, 100>;
BARRIER_KERNEL(barrier_counter_pause_20ns, Pause20)
BARRIER_KERNEL(barrier_counter_pause_100ns, Pause100)
BARRIER_KERNEL(barrier_counter_relaxed_poll, CounterRelaxedPoll)
BARRIER_KERNEL(barrier_sign_flip, SignFlip)
BARRIER_KERNEL(barrier_flag_per_block, FlagPerBlock)
BARRIER_KERNEL(barrier_cluster_then_counter, ClusterThenCounter)

// Cluster barrier alone: all clusters of the grid run it independently.
KERNEL cluster_barrier(int rounds, u32* errors) {
  __shared__ u32 slot[2];
  const u32 next = (cluster_rank() + 1) % cluster_blocks();
  u32 wrong = 0;
  cluster_sync();
  for (int r = 0; r < rounds; ++r) cluster_sync();
  for (int r = 0; r < 64; ++r) {  // not part of the slope: shows that the barrier orders shared memory
    if (threadIdx.x == 0) slot[r & 1] = r * 31 + cluster_rank();
    cluster_sync();
    if (threadIdx.x == 0) {
      u32 v;
      asm volatile("ld.shared::cluster.u32 %0, [%1];"
                   : "=r"(v)
                   : "r"(remote_address(shared_address(&slot[r & 1]), next))
                   : "memory");
      wrong += v != r * 31 + next;
    }
  }
  cluster_sync();
  if (wrong) atomicAdd(errors, wrong);
}

// ---------------------------------------------------------------- hand-over between two blocks (ping-pong)
// Block 0 and block `partner` exchange 128 threads' data `rounds` times; one edge = time / (2 * rounds).
template <bool COUNTER>
DEVICE void pair_loop(u32* flags, u32* data, u32* errors, int rounds, u32 partner) {
  if (blockIdx.x != 0 && blockIdx.x != partner) return;
  const bool first = blockIdx.x == 0;
  u32 *mine = flags + (first ? 0 : 64), *theirs = flags + (first ? 64 : 0);
  u32 *out = data + (first ? 0 : 128), *in = data + (first ? 128 : 0);
  const u32 base = load_acquire(mine);
  u32 wrong = 0;
  __syncthreads();
  for (u32 r = 1; r <= u32(rounds); ++r) {
    if (!first) {
      if (threadIdx.x == 0)
        while (int(load_acquire(theirs) - base - r) < 0) {
        }
      __syncthreads();
      wrong += __ldcg(in + threadIdx.x) != r + threadIdx.x;
    }
    out[threadIdx.x] = r + threadIdx.x;
    __syncthreads();
    if (threadIdx.x == 0) {
      if (COUNTER) add_release(mine, 1u);
      else store_release(mine, base + r);
    }
    if (first) {
      if (threadIdx.x == 0)
        while (int(load_acquire(theirs) - base - r) < 0) {
        }
      __syncthreads();
      wrong += __ldcg(in + threadIdx.x) != r + threadIdx.x;
    }
  }
  if (wrong) atomicAdd(errors, wrong);
}
KERNEL pair_flag(u32* flags, u32* data, u32* errors, int rounds, u32 partner) {
  pair_loop<false>(flags, data, errors, rounds, partner);
}
KERNEL pair_counter(u32* flags, u32* data, u32* errors, int rounds, u32 partner) {
  pair_loop<true>(flags, data, errors, rounds, partner);
}

// Data as flag: every 16-byte vector carries its own round number, so no fence and no block barrier.
KERNEL pair_data_as_flag(uint4* slots, u32* unused, u32* errors, int rounds, u32 partner) {
  if (blockIdx.x != 0 && blockIdx.x != partner) return;
  const bool first = blockIdx.x == 0;
  uint4 *out = slots + (first ? 0 : 128) + threadIdx.x, *in = slots + (first ? 128 : 0) + threadIdx.x;
  u32 wrong = 0;
  // the round number of the last launch is left in my own slot
  u32 base;
  asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(base) : "l"(out) : "memory");
  for (u32 r = base + 1; r <= base + u32(rounds); ++r) {
    uint4 v;
    if (first)
      asm volatile("st.relaxed.gpu.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(out), "r"(r), "r"(r * 3),
                   "r"(r * 5), "r"(threadIdx.x)
                   : "memory");
    do {
      asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];"
                   : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                   : "l"(in)
                   : "memory");
    } while (v.x != r);
    wrong += v.y != r * 3 || v.z != r * 5 || v.w != threadIdx.x;
    if (!first)
      asm volatile("st.relaxed.gpu.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(out), "r"(r), "r"(r * 3),
                   "r"(r * 5), "r"(threadIdx.x)
                   : "memory");
  }
  if (wrong) atomicAdd(errors, wrong);
}

// ---------------------------------------------------------------- distributed shared memory
// Chase of dependent loads in the shared memory of block `target` of the cluster (0 = one's own).
KERNEL shared_chase(const u32* next, int hops, u32 target, u64* out) {
  __shared__ u32 chain[4096];
  for (u32 i = threadIdx.x; i < 4096; i += blockDim.x) chain[i] = next[i] * 4;
  cluster_sync();
  if (cluster_rank() == 0 && blockIdx.x == 0 && threadIdx.x == 0) {
    const u32 local = shared_address(chain), base = remote_address(local, target);
    u32 at = 0;
    const Stopwatch watch;
    if (target)
      for (int i = 0; i < hops; ++i) asm volatile("ld.shared::cluster.u32 %0, [%1];" : "=r"(at) : "r"(base + at));
    else
      for (int i = 0; i < hops; ++i) asm volatile("ld.shared.u32 %0, [%1];" : "=r"(at) : "r"(local + at));
    watch.stop(out);
    out[2] = at;
  }
  cluster_sync();
}

// Ping-pong of a flag in distributed shared memory between ranks 0 and 1; one edge = cycles / (2 * rounds).
KERNEL dsmem_flag(int rounds, u64* out) {
  __shared__ u32 flag;
  if (threadIdx.x == 0) flag = 0;
  cluster_sync();
  if (cluster_rank() < 2 && threadIdx.x == 0) {
    const bool first = cluster_rank() == 0;
    const u32 local = shared_address(&flag), remote = remote_address(local, first ? 1 : 0);
    const Stopwatch watch;
    for (u32 r = 1; r <= u32(rounds); ++r) {
      u32 v;
      if (first) asm volatile("st.release.cluster.shared::cluster.u32 [%0], %1;" ::"r"(remote), "r"(r) : "memory");
      do {
        asm volatile("ld.acquire.cluster.shared::cta.u32 %0, [%1];" : "=r"(v) : "r"(local) : "memory");
      } while (v < r);
      if (!first) asm volatile("st.release.cluster.shared::cluster.u32 [%0], %1;" ::"r"(remote), "r"(r) : "memory");
    }
    if (first && blockIdx.x == 0) watch.stop(out);
  }
  cluster_sync();
}

// The same with st.async: the data itself completes the remote mbarrier (no flag, no fence).
KERNEL dsmem_async(int rounds, u64* out, u32* errors) {
  __shared__ alignas(8) u64 barrier;
  __shared__ u32 box;
  const u32 bar = shared_address(&barrier);
  if (threadIdx.x == 0) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(bar) : "memory");
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  cluster_sync();
  if (cluster_rank() < 2 && threadIdx.x == 0) {
    const bool first = cluster_rank() == 0;
    const u32 other = first ? 1 : 0;
    const u32 remote_bar = remote_address(bar, other);
    const u32 remote_box = remote_address(shared_address(&box), other);
    u32 wrong = 0;
    const Stopwatch watch;
    for (u32 r = 0; r < u32(rounds); ++r) {
      asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], 4;" ::"r"(bar) : "memory");
      if (first)
        asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.u32 [%0], %1, [%2];" ::"r"(remote_box),
                     "r"(r * 7), "r"(remote_bar)
                     : "memory");
      u32 done = 0;
      while (!done)
        asm volatile(
            "{\n.reg .pred p;\nmbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], %2;\n"
            "selp.u32 %0, 1, 0, p;\n}"
            : "=r"(done)
            : "r"(bar), "r"(r & 1)
            : "memory");
      u32 v;
      asm volatile("ld.shared.u32 %0, [%1];" : "=r"(v) : "r"(shared_address(&box)) : "memory");
      wrong += v != r * 7;
      if (!first)
        asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.u32 [%0], %1, [%2];" ::"r"(remote_box),
                     "r"(r * 7), "r"(remote_bar)
                     : "memory");
    }
    if (first && blockIdx.x == 0) watch.stop(out);
    if (wrong) atomicAdd(errors, wrong);
  }
  cluster_sync();
}

// All blocks read 64 KB of the next rank's shared memory `passes` times, 16 bytes a load.
KERNEL __launch_bounds__(512) dsmem_read(int passes, u32* sink) {
  extern __shared__ uint4 tile[];  // 4096 vectors
  for (u32 i = threadIdx.x; i < 4096; i += 512) tile[i] = make_uint4(i, i * 3, blockIdx.x, i ^ 77);
  cluster_sync();
  const u32 base = remote_address(shared_address(tile), (cluster_rank() + 1) % cluster_blocks());
  u32 sum = 0;
  for (int pass = 0; pass < passes; ++pass) {
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      u32 x, y, z, w;
      asm volatile("ld.shared::cluster.v4.u32 {%0, %1, %2, %3}, [%4];"
                   : "=r"(x), "=r"(y), "=r"(z), "=r"(w)
                   : "r"(base + ((k * 512 + threadIdx.x + pass * 32) & 4095) * 16));
      sum ^= x ^ y ^ z ^ w;
    }
  }
  cluster_sync();
  if (sum == 0x12345678) *sink = sum;
}

// ---------------------------------------------------------------- bandwidth and latency of the memories
// idx walks the vectors in steps; at the end it wraps and moves by `pass_shift`. L1 is bypassed (.cg).
// Rolling buffer: 8 loads of 16 bytes a thread stay in flight. `loads` is a multiple of 8.
KERNEL __launch_bounds__(512) read_vectors(const uint4* data, u64 vectors, u64 block_stride, u64 step,
                                           u64 pass_shift, int loads, u32* sink) {
  u64 idx = blockIdx.x * block_stride + threadIdx.x;
  if (idx >= vectors) idx -= vectors;
  auto next = [&] {
    const uint4 v = load_l2(data + idx);
    idx += step;
    if (idx >= vectors) {
      idx = idx - vectors + pass_shift;
      if (idx >= vectors) idx -= vectors;
    }
    return v;
  };
  u32 sum = 0;
  uint4 v[8];
#pragma unroll
  for (int k = 0; k < 8; ++k) v[k] = next();
  for (int i = 8; i < loads; i += 8) {
#pragma unroll
    for (int k = 0; k < 8; ++k) {
      sum ^= v[k].x ^ v[k].y ^ v[k].z ^ v[k].w;
      v[k] = next();
    }
  }
#pragma unroll
  for (int k = 0; k < 8; ++k) sum ^= v[k].x ^ v[k].y ^ v[k].z ^ v[k].w;
  if (sum == 0x12345678) *sink = sum;
}
KERNEL __launch_bounds__(512) copy_vectors(const uint4* in, uint4* out, u64 vectors) {
  const u64 step = u64(gridDim.x) * 512;
  u64 i = u64(blockIdx.x) * 512 + threadIdx.x;
  for (; i + 3 * step < vectors; i += 4 * step) {
    uint4 v[4];
#pragma unroll
    for (int k = 0; k < 4; ++k) v[k] = __ldcs(in + i + k * step);
#pragma unroll
    for (int k = 0; k < 4; ++k) __stcs(out + i + k * step, v[k]);
  }
  for (; i < vectors; i += step) out[i] = in[i];
}

// Dependent loads, one thread; `next` holds word offsets. l1 = 1 lets the loads hit the L1 cache.
KERNEL global_chase(const u32* next, int hops, int l1, u64* out) {
  u32 at = 0;
  if (l1)
    for (u32 i = 0; i < 1024; ++i) at = __ldca(next + at);
  const Stopwatch watch;
  if (l1)
    for (int i = 0; i < hops; ++i) at = __ldca(next + at);
  else
    for (int i = 0; i < hops; ++i) at = __ldcg(next + at);
  watch.stop(out);
  out[2] = at;
}

// ---------------------------------------------------------------- a stage of a network, linked four ways
// A stage reads LOADS * 4 KB of weights a block (from L2) and the 256 words that the previous stage wrote,
// reduces over the block and writes two words. The links: graph node, PDL edge, grid barrier; with or
// without fetching the weights ahead of the link.
// Weights travel by cp.async into shared memory; every thread reads back what it fetched itself.
extern __shared__ uint4 stage_tile[];
template <int LOADS>
DEVICE void fetch(const uint4* weights) {
#pragma unroll
  for (int i = 0; i < LOADS; ++i)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(stage_tile + i * 256 + threadIdx.x)),
                 "l"(weights + (blockIdx.x * LOADS + i) * 256 + threadIdx.x)
                 : "memory");
}
template <int LOADS>
DEVICE void multiply(const u32* x, u32* y) {
  __shared__ u32 partial[8];
  const u32 v = load_relaxed(x + threadIdx.x);
  asm volatile("cp.async.wait_all;" ::: "memory");
  u32 sum = 0;
#pragma unroll
  for (int i = 0; i < LOADS; ++i) {
    const uint4 w = stage_tile[i * 256 + threadIdx.x];
    sum += (w.x + 3 * w.y + 5 * w.z + 7 * w.w) * v;
  }
  for (int d = 16; d; d >>= 1) sum += __shfl_xor_sync(~0u, sum, d);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int i = 1; i < 8; ++i) sum += partial[i];
    y[2 * blockIdx.x] = sum;
    y[2 * blockIdx.x + 1] = sum ^ 0x9E3779B9u;
  }
}
template <int LOADS>
DEVICE void stage_node(const uint4* weights, const u32* x, u32* y) {
  fetch<LOADS>(weights);
  multiply<LOADS>(x, y);
}
template <int LOADS, bool AHEAD>
DEVICE void stage_pdl(const uint4* weights, const u32* x, u32* y) {
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
  if (AHEAD) fetch<LOADS>(weights);
  asm volatile("griddepcontrol.wait;" ::: "memory");
  if (!AHEAD) fetch<LOADS>(weights);
  multiply<LOADS>(x, y);
}
template <int LOADS, bool AHEAD, class Barrier>
DEVICE void stage_persistent(void* memory, const uint4* weights, int sets, u32* xy, int stages) {
  Barrier barrier;
  barrier.init(memory);
  const u64 stride = u64(gridDim.x) * LOADS * 256;
  if (AHEAD) fetch<LOADS>(weights);
  for (int s = 0; s < stages; ++s) {
    if (!AHEAD) fetch<LOADS>(weights + (s % sets) * stride);
    multiply<LOADS>(xy + (s & 1) * 512, xy + ((s + 1) & 1) * 512);
    barrier.arrive();  // first: the fence in it would wait for the fetch
    if (AHEAD) fetch<LOADS>(weights + ((s + 1) % sets) * stride);
    barrier.wait();
  }
  asm volatile("cp.async.wait_all;" ::: "memory");
}
// Data as flag: every word travels with its stage number, and whoever needs it polls it. No barrier. Each
// block waits for every word, so that no block is more than one stage ahead and two buffers are enough.
// `epochs` keeps every block's stage number from launch to launch.
template <int LOADS, bool AHEAD>
DEVICE void stage_data_as_flag(u32* epochs, const uint4* weights, int sets, u64* xy, int stages) {
  __shared__ u32 partial[8];
  const u64 stride = u64(gridDim.x) * LOADS * 256;
  const u32 epoch = epochs[blockIdx.x];
  auto wait_for = [](const u64* p, u32 stage) {
    u64 v;
    while (true) {
      asm volatile("ld.relaxed.gpu.global.u64 %0, [%1];" : "=l"(v) : "l"(p) : "memory");
      if (u32(v >> 32) == stage) return u32(v);
      __nanosleep(20);
    }
  };
  if (AHEAD) fetch<LOADS>(weights);
  for (int s = 0; s < stages; ++s) {
    if (!AHEAD) fetch<LOADS>(weights + (s % sets) * stride);
    const u64* x = xy + (s & 1) * 512;
    const u32 v = wait_for(x + threadIdx.x, epoch + s);
    if (threadIdx.x + 256 < 2 * gridDim.x) wait_for(x + threadIdx.x + 256, epoch + s);
    asm volatile("cp.async.wait_all;" ::: "memory");
    u32 sum = 0;
#pragma unroll
    for (int i = 0; i < LOADS; ++i) {
      const uint4 w = stage_tile[i * 256 + threadIdx.x];
      sum += (w.x + 3 * w.y + 5 * w.z + 7 * w.w) * v;
    }
    for (int d = 16; d; d >>= 1) sum += __shfl_xor_sync(~0u, sum, d);
    if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x < 2) {
      sum = 0;
      for (int i = 0; i < 8; ++i) sum += partial[i];
      const u64 packed = u64(epoch + s + 1) << 32 | (threadIdx.x ? sum ^ 0x9E3779B9u : sum);
      u64* y = xy + ((s + 1) & 1) * 512 + 2 * blockIdx.x + threadIdx.x;
      asm volatile("st.relaxed.gpu.global.u64 [%0], %1;" ::"l"(y), "l"(packed) : "memory");
    }
    if (AHEAD) fetch<LOADS>(weights + ((s + 1) % sets) * stride);
    __syncthreads();  // partial[] is free again
  }
  asm volatile("cp.async.wait_all;" ::: "memory");
  if (threadIdx.x == 0) epochs[blockIdx.x] = epoch + stages;
}

// The network inside one cluster: x lives in every block's shared memory, every warp computes two words and
// pushes them to all blocks (16 of them), and the cluster's hardware barrier is the link.
template <int LOADS, bool AHEAD>
DEVICE void stage_cluster(const uint4* weights, int sets, u32* xy, int stages) {
  __shared__ u32 x[2][256];
  const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const u64 stride = u64(gridDim.x) * LOADS * 256;
  x[0][threadIdx.x] = xy[threadIdx.x];
  if (AHEAD) fetch<LOADS>(weights);
  cluster_sync();
  for (int s = 0; s < stages; ++s) {
    if (!AHEAD) fetch<LOADS>(weights + (s % sets) * stride);
    asm volatile("cp.async.wait_all;" ::: "memory");
    u32 sum = 0;
#pragma unroll
    for (int i = 0; i < LOADS; ++i) {
      const uint4 w = stage_tile[i * 256 + threadIdx.x];
      sum += (w.x + 3 * w.y + 5 * w.z + 7 * w.w) * x[s & 1][(i * 32 + lane) % 256];
    }
    for (int d = 16; d; d >>= 1) sum += __shfl_xor_sync(~0u, sum, d);
    if (lane < 16) {
      const u32 slot = shared_address(&x[(s + 1) & 1][(cluster_rank() * 8 + warp) * 2]);
      asm volatile("st.shared::cluster.v2.u32 [%0], {%1, %2};" ::"r"(remote_address(slot, lane)), "r"(sum),
                   "r"(sum ^ 0x9E3779B9u)
                   : "memory");
    }
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
    if (AHEAD) fetch<LOADS>(weights + ((s + 1) % sets) * stride);
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
  }
  asm volatile("cp.async.wait_all;" ::: "memory");
  if (cluster_rank() == 0) xy[threadIdx.x] = x[stages & 1][threadIdx.x];
}
// The same without any barrier: the pushed words complete a transaction barrier of the block they go to, so
// that neither a fence nor a round trip stands between two stages. Two buffers are enough: x of stage s + 1
// is sent only after all of stage s has come in, and that was sent after the sender had read stage s - 1.
template <int LOADS>
DEVICE void stage_cluster_async(const uint4* weights, int sets, u32* xy, int stages) {
  __shared__ u32 x[2][256];
  __shared__ alignas(8) u64 full[2];
  const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  const u64 stride = u64(gridDim.x) * LOADS * 256;
  auto wait_for = [&](int s) {
    u32 done = 0;
    while (!done)
      asm volatile(
          "{\n.reg .pred p;\nmbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], %2;\n"
          "selp.u32 %0, 1, 0, p;\n}"
          : "=r"(done)
          : "r"(shared_address(&full[s & 1])), "r"(((s - 1) >> 1) & 1)
          : "memory");
  };
  x[0][threadIdx.x] = xy[threadIdx.x];
  if (threadIdx.x < 2)
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(shared_address(&full[threadIdx.x])) : "memory");
  if (threadIdx.x == 0) asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  fetch<LOADS>(weights);
  cluster_sync();
  for (int s = 0; s < stages; ++s) {
    if (threadIdx.x == 0)
      asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], 1024;" ::"r"(
                       shared_address(&full[(s + 1) & 1]))
                   : "memory");
    asm volatile("cp.async.wait_all;" ::: "memory");
    if (s) wait_for(s);
    u32 sum = 0;
#pragma unroll
    for (int i = 0; i < LOADS; ++i) {
      const uint4 w = stage_tile[i * 256 + threadIdx.x];
      sum += (w.x + 3 * w.y + 5 * w.z + 7 * w.w) * x[s & 1][(i * 32 + lane) % 256];
    }
    for (int d = 16; d; d >>= 1) sum += __shfl_xor_sync(~0u, sum, d);
    if (lane < 16) {
      const u32 slot = shared_address(&x[(s + 1) & 1][(cluster_rank() * 8 + warp) * 2]);
      const u32 signal = shared_address(&full[(s + 1) & 1]);
      asm volatile("st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.u32 [%0], {%1, %2}, [%3];" ::"r"(
                       remote_address(slot, lane)),
                   "r"(sum), "r"(sum ^ 0x9E3779B9u), "r"(remote_address(signal, lane))
                   : "memory");
    }
    fetch<LOADS>(weights + ((s + 1) % sets) * stride);
  }
  if (stages) wait_for(stages);
  asm volatile("cp.async.wait_all;" ::: "memory");
  cluster_sync();
  if (cluster_rank() == 0) xy[threadIdx.x] = x[stages & 1][threadIdx.x];
}
#define CLUSTER_STAGE_KERNELS(loads)                                                                         \
  KERNEL __launch_bounds__(256) stage_cluster_##loads(const uint4* w, int sets, u32* xy, int n) {            \
    stage_cluster<loads, false>(w, sets, xy, n);                                                             \
  }                                                                                                          \
  KERNEL __launch_bounds__(256) stage_cluster_ahead_##loads(const uint4* w, int sets, u32* xy, int n) {      \
    stage_cluster<loads, true>(w, sets, xy, n);                                                              \
  }                                                                                                          \
  KERNEL __launch_bounds__(256) stage_cluster_async_ahead_##loads(const uint4* w, int sets, u32* xy,         \
                                                                  int n) {                                   \
    stage_cluster_async<loads>(w, sets, xy, n);                                                              \
  }
CLUSTER_STAGE_KERNELS(2)
CLUSTER_STAGE_KERNELS(8)
CLUSTER_STAGE_KERNELS(32)

#define STAGE_KERNELS(loads)                                                                                 \
  KERNEL __launch_bounds__(256) stage_node_##loads(const uint4* w, const u32* x, u32* y) {                   \
    stage_node<loads>(w, x, y);                                                                              \
  }                                                                                                          \
  KERNEL __launch_bounds__(256) stage_pdl_##loads(const uint4* w, const u32* x, u32* y) {                    \
    stage_pdl<loads, false>(w, x, y);                                                                        \
  }                                                                                                          \
  KERNEL __launch_bounds__(256) stage_pdl_ahead_##loads(const uint4* w, const u32* x, u32* y) {              \
    stage_pdl<loads, true>(w, x, y);                                                                         \
  }                                                                                                          \
  KERNEL __launch_bounds__(256) stage_counter_##loads(void* m, const uint4* w, int sets, u32* xy, int n) {   \
    stage_persistent<loads, false, Pause20>(m, w, sets, xy, n);                                         \
  }                                                                                                          \
  KERNEL __launch_bounds__(256) stage_counter_ahead_##loads(void* m, const uint4* w, int sets, u32* xy,      \
                                                            int n) {                                         \
    stage_persistent<loads, true, Pause20>(m, w, sets, xy, n);                                          \
  }                                                                                                          \
  KERNEL __launch_bounds__(256) stage_data_##loads(u32* e, const uint4* w, int sets, u64* xy, int n) {       \
    stage_data_as_flag<loads, false>(e, w, sets, xy, n);                                                     \
  }                                                                                                          \
  KERNEL __launch_bounds__(256) stage_data_ahead_##loads(u32* e, const uint4* w, int sets, u64* xy, int n) { \
    stage_data_as_flag<loads, true>(e, w, sets, xy, n);                                                      \
  }                                                                                                          \
  KERNEL __launch_bounds__(256) stage_flags_ahead_##loads(void* m, const uint4* w, int sets, u32* xy,        \
                                                          int n) {                                           \
    stage_persistent<loads, true, FlagPerBlock>(m, w, sets, xy, n);                                          \
  }
STAGE_KERNELS(1)
STAGE_KERNELS(4)
STAGE_KERNELS(16)
