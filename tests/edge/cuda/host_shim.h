// Enough of CUDA to run the kernels' own source on a CPU: g++ -std=c++17.
//
// A block's threads are fibres. Each runs until it comes to a barrier or to its end; then the
// others run up to there, in an order drawn anew for every phase. Blocks come in a drawn order
// too. So what lacks a barrier, or leans on the order of threads or blocks, goes wrong here, and
// the same way for the same seed. Shared memory is filled with rubbish before each block.
#pragma once
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#define __global__
#define __device__ static inline
#define __launch_bounds__(n)
#define __shared__ static __attribute__((section("loupe_shared")))
extern "C" char __start_loupe_shared[] __attribute__((visibility("hidden")));
extern "C" char __stop_loupe_shared[] __attribute__((visibility("hidden")));

struct Index3 {
    unsigned x, y, z;
};
static Index3 threadIdx, blockIdx, blockDim, gridDim;

enum Outcome { OK = 0, NO_SUCH_KERNEL = 1, WRONG_ARGUMENTS = 2, DIVERGENT_BARRIER = 3 };

// A context begins a fibre; from then on jumps, which make no system call, lead in and out.
struct Fibre {
    ucontext_t context;
    jmp_buf place;
    bool has_begun;
    std::vector<char> stack = std::vector<char>(64 * 1024);
    int barrier;  // the line it waits at, 0 once it has ended
};

static jmp_buf scheduler;
static std::vector<Fibre> fibres;
static Fibre* running;
static void (*body)(void*);
static void* body_argument;

static void run_body()
{
    body(body_argument);
    running->barrier = 0;
    _longjmp(scheduler, 1);
}

static void wait_at(int line)
{
    running->barrier = line;
    if (_setjmp(running->place) == 0)
        _longjmp(scheduler, 1);
}
#define __syncthreads() wait_at(__LINE__)

static void __attribute__((noinline)) resume(Fibre* fibre)
{
    running = fibre;
    if (_setjmp(scheduler) != 0)
        return;
    if (fibre->has_begun)
        _longjmp(fibre->place, 1);
    fibre->has_begun = true;
    setcontext(&fibre->context);
}

static Outcome run_block(std::mt19937& order)
{
    size_t n = blockDim.x * blockDim.y * blockDim.z;
    memset(__start_loupe_shared, 0xA5, __stop_loupe_shared - __start_loupe_shared);
    if (fibres.size() < n)
        fibres.resize(n);
    for (size_t i = 0; i < n; ++i) {
        getcontext(&fibres[i].context);
        fibres[i].context.uc_stack.ss_sp = fibres[i].stack.data();
        fibres[i].context.uc_stack.ss_size = fibres[i].stack.size();
        fibres[i].context.uc_link = nullptr;
        fibres[i].has_begun = false;
        makecontext(&fibres[i].context, run_body, 0);
    }
    std::vector<unsigned> turn(n);
    std::iota(turn.begin(), turn.end(), 0);
    do {
        std::shuffle(turn.begin(), turn.end(), order);
        for (unsigned i : turn) {
            threadIdx = {i % blockDim.x, i / blockDim.x % blockDim.y, i / (blockDim.x * blockDim.y)};
            resume(&fibres[i]);
        }
        for (size_t i = 1; i < n; ++i)
            if (fibres[i].barrier != fibres[0].barrier)
                return DIVERGENT_BARRIER;
    } while (fibres[0].barrier != 0);
    return OK;
}

template <class... P, size_t... I>
static Outcome launch(
    void (*kernel)(P...), const unsigned* grid, const unsigned* block, void** arguments,
    const size_t* sizes, size_t n_arguments, unsigned seed, std::index_sequence<I...>)
{
    if (n_arguments != sizeof...(P) || !((sizes[I] == sizeof(P)) && ...))
        return WRONG_ARGUMENTS;
    auto call = [&] { kernel(*static_cast<P*>(arguments[I])...); };
    body = [](void* it) { (*static_cast<decltype(call)*>(it))(); };
    body_argument = &call;
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {block[0], block[1], block[2]};
    std::mt19937 order(seed);
    std::vector<unsigned> blocks(grid[0] * grid[1] * grid[2]);
    std::iota(blocks.begin(), blocks.end(), 0);
    std::shuffle(blocks.begin(), blocks.end(), order);
    for (unsigned i : blocks) {
        blockIdx = {i % grid[0], i / grid[0] % grid[1], i / (grid[0] * grid[1])};
        if (Outcome outcome = run_block(order); outcome != OK)
            return outcome;
    }
    return OK;
}

#define LAUNCHED(kernel)                                                                        \
    if (!strcmp(name, #kernel))                                                                 \
        return launch_of(kernel, grid, block, arguments, sizes, n_arguments, seed);

template <class... P>
static Outcome launch_of(
    void (*kernel)(P...), const unsigned* grid, const unsigned* block, void** arguments,
    const size_t* sizes, size_t n_arguments, unsigned seed)
{
    return launch(
        kernel, grid, block, arguments, sizes, n_arguments, seed, std::index_sequence_for<P...>());
}

static float __fmul_rn(float a, float b) { return a * b; }  // built with -ffp-contract=off
static float __fadd_rn(float a, float b) { return a + b; }

// A GPU's conversions round halves to even and saturate.
static int __double2int_rn(double a)
{
    return (int)std::fmin(std::fmax(std::nearbyint(a), -2147483648.0), 2147483647.0);
}
static int __float2int_rn(float a) { return __double2int_rn(a); }

static int atomicAdd(int* at, int much) { return std::exchange(*at, *at + much); }
static int atomicMin(int* at, int other) { return std::exchange(*at, std::min(*at, other)); }
static int atomicMax(int* at, int other) { return std::exchange(*at, std::max(*at, other)); }
