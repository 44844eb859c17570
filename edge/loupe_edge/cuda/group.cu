// Each centre's nearest points, and each pixel's three nearest centres.
//
// The reference is loupe_models.groups: in order of distance, of equals the lower index first.
// Keys order both at once, and none equals another, so that "the k least" has one answer.

const int N_BUCKETS = 256, BUCKET_BITS = 8;
const int MAX_SORTED = 2048;
const int CENTRES_AT_ONCE = 256;
const Key NO_KEY = ~(Key)0;

__device__ Key key_of(const int* points, int stride, int i, const int* centre, int bits)
{
    Key squared = squared_distance(
        points[i] - centre[0], points[stride + i] - centre[1], points[2 * stride + i] - centre[2]);
    return squared << bits | (Key)i;
}

// Sum counts up to each bucket, in place.
__device__ void sum_buckets(int* counts, int* spare)
{
    for (int step = 1; step < N_BUCKETS; step <<= 1) {
        for (int b = threadIdx.x; b < N_BUCKETS; b += blockDim.x)
            spare[b] = counts[b] + (b >= step ? counts[b - step] : 0);
        __syncthreads();
        for (int b = threadIdx.x; b < N_BUCKETS; b += blockDim.x)
            counts[b] = spare[b];
        __syncthreads();
    }
}

// Sort n keys upwards; n is a power of two.
__device__ void sort_keys(Key* keys, int n)
{
    for (int run = 2; run <= n; run <<= 1)
        for (int apart = run / 2; apart > 0; apart /= 2) {
            for (int i = threadIdx.x; i < n; i += blockDim.x) {
                int other = i ^ apart;
                bool is_upward = (i & run) == 0;
                if (other > i && (keys[i] > keys[other]) == is_upward) {
                    Key swapped = keys[i];
                    keys[i] = keys[other];
                    keys[other] = swapped;
                }
            }
            __syncthreads();
        }
}

// One block a centre. Digit by digit from the top, the bucket that holds the size-th least key is
// found, until what lies up to that bucket fits into shared memory, where it is sorted.
//
// chosen:    (n_centres) which points are centres.
// key_bits:  how many bits the greatest key may have.
// n_sorted:  a power of two, from 2 * size up, at most MAX_SORTED.
// groups:    (n_centres, size, 3) metres from the centre, nearest first.
// centres:   (n_centres, 3) metres.
extern "C" __global__ void group_nearest(
    const int* points, int stride, int n_points, const int* chosen, int size, int key_bits,
    int n_sorted, float* groups, float* centres)
{
    __shared__ Key kept[MAX_SORTED];
    __shared__ int counts[N_BUCKETS], spare[N_BUCKETS];
    __shared__ int bucket, n_kept;
    int t = threadIdx.x, bits = bit_length(n_points);
    int own = chosen[blockIdx.x];
    int centre[3] = {points[own], points[stride + own], points[2 * stride + own]};

    int shift = (key_bits + BUCKET_BITS - 1) / BUCKET_BITS * BUCKET_BITS;
    int n_below = 0, n_up_to = n_points;  // keys below the bucket, and up to its end
    Key prefix = 0;
    while (n_up_to > n_sorted) {
        shift -= BUCKET_BITS;
        for (int b = t; b < N_BUCKETS; b += blockDim.x)
            counts[b] = 0;
        __syncthreads();
        for (int i = t; i < n_points; i += blockDim.x) {
            Key high = key_of(points, stride, i, centre, bits) >> shift;
            if (high >> BUCKET_BITS == prefix)
                atomicAdd(&counts[high & (N_BUCKETS - 1)], 1);
        }
        __syncthreads();
        sum_buckets(counts, spare);
        for (int b = t; b < N_BUCKETS; b += blockDim.x)
            if (n_below + counts[b] >= size && (b == 0 || n_below + counts[b - 1] < size))
                bucket = b;
        __syncthreads();
        prefix = prefix << BUCKET_BITS | (Key)bucket;
        n_up_to = n_below + counts[bucket];
        n_below += bucket > 0 ? counts[bucket - 1] : 0;
        __syncthreads();
    }

    for (int i = t; i < n_sorted; i += blockDim.x)
        kept[i] = NO_KEY;
    if (t == 0)
        n_kept = 0;
    __syncthreads();
    for (int i = t; i < n_points; i += blockDim.x) {
        Key key = key_of(points, stride, i, centre, bits);
        if (n_up_to == n_points || key >> shift <= prefix)
            kept[atomicAdd(&n_kept, 1)] = key;
    }
    __syncthreads();
    sort_keys(kept, n_sorted);

    for (int i = t; i < 3 * size; i += blockDim.x) {
        int axis = i % 3;
        int member = (int)(kept[i / 3] & (((Key)1 << bits) - 1));
        int away = points[axis * stride + member] - centre[axis];
        groups[3 * size * blockIdx.x + i] = (float)((double)away / 1e5);
    }
    for (int axis = t; axis < 3; axis += blockDim.x)
        centres[3 * blockIdx.x + axis] = (float)((double)centre[axis] / 1e5);
}

// One thread a pixel; the centres pass through shared memory.
//
// nn_index:  (n_px, 3) which centre, and nn_weight its weight; both 0 where not valid.
extern "C" __global__ void nearest_centres(
    const float* xyz, const unsigned char* valid, int n_px, const int* points, int stride,
    const int* chosen, int n_centres, int* nn_index, float* nn_weight)
{
    __shared__ int tile[3][CENTRES_AT_ONCE];
    int pixel = blockIdx.x * blockDim.x + threadIdx.x, bits = bit_length(n_centres);
    bool is_valid = pixel < n_px && valid[pixel];
    int at[3] = {0, 0, 0};
    for (int axis = 0; is_valid && axis < 3; ++axis)
        at[axis] = on_grid(xyz[3 * pixel + axis]);
    Key best[3] = {NO_KEY, NO_KEY, NO_KEY};
    for (int begin = 0; begin < n_centres; begin += CENTRES_AT_ONCE) {
        int n = n_centres - begin < CENTRES_AT_ONCE ? n_centres - begin : CENTRES_AT_ONCE;
        for (int i = threadIdx.x; i < n; i += blockDim.x)
            for (int axis = 0; axis < 3; ++axis)
                tile[axis][i] = points[axis * stride + chosen[begin + i]];
        __syncthreads();
        for (int i = 0; is_valid && i < n; ++i) {
            Key squared = squared_distance(
                at[0] - tile[0][i], at[1] - tile[1][i], at[2] - tile[2][i]);
            Key key = squared << bits | (Key)(begin + i);
            for (int place = 0; place < 3; ++place)
                if (key < best[place]) {
                    Key pushed = best[place];
                    best[place] = key;
                    key = pushed;
                }
        }
        __syncthreads();
    }
    if (pixel >= n_px)
        return;
    double weights[3] = {0.0, 0.0, 0.0}, sum = 1.0;
    if (is_valid) {
        for (int place = 0; place < 3; ++place)
            weights[place] = 1.0 / ((double)(best[place] >> bits) / 1e10 + 1e-8);
        sum = weights[0] + weights[1] + weights[2];
    }
    for (int place = 0; place < 3; ++place) {
        int index = (int)(best[place] & (((Key)1 << bits) - 1));
        nn_index[3 * pixel + place] = is_valid ? index : 0;
        nn_weight[3 * pixel + place] = (float)(weights[place] / sum);
    }
}
