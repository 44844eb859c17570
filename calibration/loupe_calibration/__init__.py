"""What a pixel means: intrinsics, rigid transforms, the belt plane, deprojection."""
