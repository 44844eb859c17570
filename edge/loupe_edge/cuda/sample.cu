// Farthest-point sampling in one block, which stays until all points are chosen.
//
// The reference is `sample_farthest` of loupe_models.points: start at point 0; the next is the
// farthest from all before it, of equals the one with the lowest index. With the distance above
// and the index below, upside down, that is the greatest key.

// points:    (3, stride), n_points of them; at least one.
// farness:   (n_points) room to work in.
// chosen:    (n_chosen) indices in the order of sampling.
extern "C" __global__ void __launch_bounds__(1024) sample_farthest(
    const int* points, int stride, int n_points, int n_chosen, Key* farness, int* chosen)
{
    __shared__ Key farthest[MAX_THREADS];
    int t = threadIdx.x, bits = bit_length(n_points);
    for (int i = t; i < n_points; i += blockDim.x)
        farness[i] = ~(Key)0;
    int at = 0;
    for (int n = 0; n < n_chosen; ++n) {
        if (t == 0)
            chosen[n] = at;
        int x = points[at], y = points[stride + at], z = points[2 * stride + at];
        Key best = 0;
        for (int i = t; i < n_points; i += blockDim.x) {
            Key key = squared_distance(
                points[i] - x, points[stride + i] - y, points[2 * stride + i] - z);
            key = key << bits | (Key)(n_points - 1 - i);
            key = key < farness[i] ? key : farness[i];
            farness[i] = key;
            best = key > best ? key : best;
        }
        farthest[t] = best;
        __syncthreads();
        for (int half = blockDim.x / 2; half > 0; half /= 2) {  // blockDim.x is a power of two
            if (t < half && farthest[t + half] > farthest[t])
                farthest[t] = farthest[t + half];
            __syncthreads();
        }
        at = n_points - 1 - (int)(farthest[0] & (((Key)1 << bits) - 1));
        __syncthreads();
    }
}
