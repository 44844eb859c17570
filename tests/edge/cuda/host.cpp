// The kernels on a CPU, behind one function that takes what cuLaunchKernel takes.
#include "host_shim.h"

#include "cloud.cu"
#include "resize.cu"
#include "points.cu"
#include "sample.cu"
#include "group.cu"

extern "C" int launch_kernel(
    const char* name, const unsigned* grid, const unsigned* block, void** arguments,
    const size_t* sizes, size_t n_arguments, unsigned seed)
{
    LAUNCHED(make_cloud)
    LAUNCHED(shrink_whole)
    LAUNCHED(shrink)
    LAUNCHED(grow)
    LAUNCHED(count_valid)
    LAUNCHED(gather_points)
    LAUNCHED(sample_farthest)
    LAUNCHED(group_nearest)
    LAUNCHED(nearest_centres)
    return NO_SUCH_KERNEL;
}
