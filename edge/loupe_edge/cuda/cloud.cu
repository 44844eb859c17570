// Depth to an organized cloud: one thread an output pixel, whatever the steps' order.
//
// The reference is `cloud`, `resize` (nearest) and `remove_belt` of loupe_models.preprocess. Its
// matrix product is OpenCV's, a chain of fused multiply-adds from the last column to the first,
// in float32; the same chain stands here.

__device__ float apply_row(const float* row, float x, float y, float z)
{
    return fmaf(x, row[0], fmaf(y, row[1], fmaf(z, row[2], row[3])));
}

// depth:     (region_height, region_width) device units, 0 is a hole.
// planes:    (2, frame_height, frame_width) x / z and y / z of each pixel's ray.
// rows:      (height) of the region, for each output row; columns (width) likewise.
// belt:      (3, 4) belt_from_camera; read only where has_belt.
// xyz:       (height, width, 3) metres, 0 where not valid.
// valid:     (height, width) 0 or 1.
extern "C" __global__ void make_cloud(
    const unsigned short* depth, const float* planes, const int* rows, const int* columns,
    const float* belt, int has_belt, float min_height_m, float depth_scale_m,
    int region_x, int region_y, int region_width, int frame_width, int frame_height,
    int width, int height, float* xyz, unsigned char* valid)
{
    int u = blockIdx.x * blockDim.x + threadIdx.x;
    int v = blockIdx.y * blockDim.y + threadIdx.y;
    if (u >= width || v >= height)
        return;
    int row = rows[v], column = columns[u];
    int raw = depth[row * region_width + column];
    int ray = (row + region_y) * frame_width + column + region_x;
    float z = (float)raw * depth_scale_m;
    float x = planes[ray] * z;
    float y = planes[frame_width * frame_height + ray] * z;
    if (has_belt) {
        float moved_x = apply_row(belt, x, y, z);
        float moved_y = apply_row(belt + 4, x, y, z);
        z = apply_row(belt + 8, x, y, z);
        x = moved_x;
        y = moved_y;
    }
    bool is_valid = raw > 0 && z >= min_height_m;
    int pixel = v * width + u;
    xyz[3 * pixel] = is_valid ? x : 0.0f;
    xyz[3 * pixel + 1] = is_valid ? y : 0.0f;
    xyz[3 * pixel + 2] = is_valid ? z : 0.0f;
    valid[pixel] = is_valid;
}
