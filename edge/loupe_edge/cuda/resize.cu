// Colour to the graph's size, rows and channels as they come: one thread an output pixel.
//
// The reference is `resize` of loupe_models.preprocess: OpenCV's INTER_AREA in float32 where the
// picture shrinks, its INTER_LINEAR in fixed point where it grows. The tables are the host's
// (loupe_edge.cuda.tables). Products and sums are spelt out where a compiler might fuse them,
// since OpenCV rounds each.

__device__ unsigned char to_byte(float mean)
{
    int rounded = __float2int_rn(mean);
    return (unsigned char)(rounded < 0 ? 0 : rounded > 255 ? 255 : rounded);
}

// A whole number of pixels goes into one. The sum is exact, so its order is free.
//
// rgb:       (height * step_y, width * step_x, 3).
// share:     1 / (step_x * step_y), rounded to float32.
extern "C" __global__ void shrink_whole(
    const unsigned char* rgb, int step_x, int step_y, float share, int width, int height,
    unsigned char* out)
{
    int u = blockIdx.x * blockDim.x + threadIdx.x;
    int v = blockIdx.y * blockDim.y + threadIdx.y;
    if (u >= width || v >= height)
        return;
    int sums[3] = {0, 0, 0};
    for (int j = 0; j < step_y; ++j) {
        const unsigned char* from = rgb + 3 * ((v * step_y + j) * width * step_x + u * step_x);
        for (int i = 0; i < step_x; ++i)
            for (int c = 0; c < 3; ++c)
                sums[c] += from[3 * i + c];
    }
    for (int c = 0; c < 3; ++c)
        out[3 * (v * width + u) + c] = to_byte(__fmul_rn((float)sums[c], share));
}

// Pixels are shared between neighbours. Along a row first, then row by row, as OpenCV does.
//
// *_begin:   (n + 1) where each output column's (row's) entries begin.
// *_source:  which input column (row); *_share, what share of the output pixel it is.
extern "C" __global__ void shrink(
    const unsigned char* rgb, int from_width,
    const int* column_begin, const int* column_source, const float* column_share,
    const int* row_begin, const int* row_source, const float* row_share,
    int width, int height, unsigned char* out)
{
    int u = blockIdx.x * blockDim.x + threadIdx.x;
    int v = blockIdx.y * blockDim.y + threadIdx.y;
    if (u >= width || v >= height)
        return;
    float means[3] = {0.0f, 0.0f, 0.0f};
    for (int j = row_begin[v]; j < row_begin[v + 1]; ++j) {
        const unsigned char* row = rgb + 3 * row_source[j] * from_width;
        float along[3] = {0.0f, 0.0f, 0.0f};
        for (int i = column_begin[u]; i < column_begin[u + 1]; ++i)
            for (int c = 0; c < 3; ++c) {
                float value = (float)row[3 * column_source[i] + c];
                along[c] = __fadd_rn(along[c], __fmul_rn(value, column_share[i]));
            }
        for (int c = 0; c < 3; ++c)
            means[c] = __fadd_rn(means[c], __fmul_rn(along[c], row_share[j]));
    }
    for (int c = 0; c < 3; ++c)
        out[3 * (v * width + u) + c] = to_byte(means[c]);
}

// Two neighbours an axis, with weights in 2048ths; the shifts are OpenCV's, and lose what its lose.
//
// columns:   (4, width) left, right, and their weights; rows (4, height) upper, lower likewise.
extern "C" __global__ void grow(
    const unsigned char* rgb, int from_width, const int* columns, const int* rows,
    int width, int height, unsigned char* out)
{
    int u = blockIdx.x * blockDim.x + threadIdx.x;
    int v = blockIdx.y * blockDim.y + threadIdx.y;
    if (u >= width || v >= height)
        return;
    const unsigned char* upper = rgb + 3 * rows[v] * from_width;
    const unsigned char* lower = rgb + 3 * rows[height + v] * from_width;
    int left = 3 * columns[u], right = 3 * columns[width + u];
    int left_weight = columns[2 * width + u], right_weight = columns[3 * width + u];
    int upper_weight = rows[2 * height + v], lower_weight = rows[3 * height + v];
    for (int c = 0; c < 3; ++c) {
        int above = upper[left + c] * left_weight + upper[right + c] * right_weight;
        int below = lower[left + c] * left_weight + lower[right + c] * right_weight;
        int sum = ((upper_weight * (above >> 4)) >> 16) + ((lower_weight * (below >> 4)) >> 16);
        out[3 * (v * width + u) + c] = (unsigned char)((sum + 2) >> 2);
    }
}
