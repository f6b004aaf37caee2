#pragma once

enum cudaDataType { CUDA_R_32F, CUDA_R_64F };
enum libraryPropertyType { MAJOR_VERSION, MINOR_VERSION, PATCH_LEVEL };
