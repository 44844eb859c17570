// The valid points of an organized cloud, in row-major order, in hundredths of a millimetre.
//
// The reference is `grid_points` of loupe_models.points. Points lie in three planes of `stride`
// numbers each, x then y then z. Squared distances are 64-bit integers: nothing is rounded, so
// that what is nearest does not depend on the machine.

typedef unsigned long long Key;  // a squared distance above, an index below: no two are equal

const int MAX_THREADS = 1024;
const int LEAST_INT = -2147483647 - 1;
const int GREATEST_INT = 2147483647;
const int N_EXTENTS = 6;  // least x, y, z, then greatest x, y, z
const int N_FOUND = 7;    // the extents, and how many points there are

__device__ int on_grid(float metres)
{
    return __double2int_rn((double)metres * 1e5);
}

__device__ Key squared_distance(int x, int y, int z)
{
    return (Key)((long long)x * x) + (Key)((long long)y * y) + (Key)((long long)z * z);
}

__device__ int bit_length(int n)
{
    int bits = 0;
    for (; n > 0; n >>= 1)
        ++bits;
    return bits;
}

// Give each thread the sum of `mine` over it and the threads before it, and all of them the total.
__device__ int sum_up_to(int mine, int* sums, int* total)
{
    int t = threadIdx.x, n_threads = blockDim.x;
    sums[t] = mine;
    __syncthreads();
    for (int step = 1; step < n_threads; step <<= 1) {
        int before = t >= step ? sums[t - step] : 0;
        __syncthreads();
        sums[t] += before;
        __syncthreads();
    }
    int sum = sums[t];
    *total = sums[n_threads - 1];
    __syncthreads();  // the next call writes to sums
    return sum;
}

// Count the valid pixels of each block, and make `found` ready for gather_points.
extern "C" __global__ void count_valid(
    const unsigned char* valid, int n_px, int* n_in_block, int* found)
{
    __shared__ int sums[MAX_THREADS];
    int pixel = blockIdx.x * blockDim.x + threadIdx.x, total;
    sum_up_to(pixel < n_px && valid[pixel], sums, &total);
    if (threadIdx.x == 0)
        n_in_block[blockIdx.x] = total;
    if (blockIdx.x == 0 && threadIdx.x == 0)
        for (int i = 0; i < N_FOUND; ++i)
            found[i] = i < 3 ? GREATEST_INT : i < N_EXTENTS ? LEAST_INT : 0;
}

// Write each valid point where its rank says. Launched in the same blocks as count_valid, of at
// least N_EXTENTS threads.
//
// points:    (3, stride).
// found:     see N_FOUND.
extern "C" __global__ void gather_points(
    const float* xyz, const unsigned char* valid, int n_px, const int* n_in_block,
    int stride, int* points, int* found)
{
    __shared__ int sums[MAX_THREADS];
    __shared__ int extents[N_EXTENTS];
    int t = threadIdx.x, pixel = blockIdx.x * blockDim.x + t;
    bool is_valid = pixel < n_px && valid[pixel];
    if (t < N_EXTENTS)
        extents[t] = t < 3 ? GREATEST_INT : LEAST_INT;
    int some = 0, n_before, n_here;
    for (int block = t; block < blockIdx.x; block += blockDim.x)
        some += n_in_block[block];
    sum_up_to(some, sums, &n_before);
    int rank = n_before + sum_up_to(is_valid, sums, &n_here) - 1;
    if (is_valid)
        for (int axis = 0; axis < 3; ++axis) {
            int at = on_grid(xyz[3 * pixel + axis]);
            points[axis * stride + rank] = at;
            atomicMin(&extents[axis], at);
            atomicMax(&extents[3 + axis], at);
        }
    __syncthreads();
    if (t < 3)
        atomicMin(&found[t], extents[t]);
    else if (t < N_EXTENTS)
        atomicMax(&found[t], extents[t]);
    if (t == 0)
        atomicMax(&found[N_EXTENTS], n_before + n_here);
}
