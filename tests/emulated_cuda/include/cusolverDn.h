// What the package uses of cuSOLVER.
#pragma once

#include "cublas_v2.h"

#define CUSOLVER_VERSION 12000

enum cusolverStatus_t {
    CUSOLVER_STATUS_SUCCESS,
    CUSOLVER_STATUS_ALLOC_FAILED,
    CUSOLVER_STATUS_INVALID_VALUE,
};
enum cusolverEigMode_t { CUSOLVER_EIG_MODE_NOVECTOR, CUSOLVER_EIG_MODE_VECTOR };
struct cusolverDnContext;
struct cusolverDnParams;
using cusolverDnHandle_t = cusolverDnContext*;
using cusolverDnParams_t = cusolverDnParams*;

cusolverStatus_t cusolverGetProperty(libraryPropertyType, int*);
cusolverStatus_t cusolverDnCreate(cusolverDnHandle_t*);
cusolverStatus_t cusolverDnDestroy(cusolverDnHandle_t);
cusolverStatus_t cusolverDnSetStream(cusolverDnHandle_t, cudaStream_t);
cusolverStatus_t cusolverDnCreateParams(cusolverDnParams_t*);
cusolverStatus_t cusolverDnDestroyParams(cusolverDnParams_t);
cusolverStatus_t cusolverDnXsyevBatched_bufferSize(cusolverDnHandle_t, cusolverDnParams_t,
                                                   cusolverEigMode_t, cublasFillMode_t,
                                                   std::int64_t n, cudaDataType, const void* a,
                                                   std::int64_t lda, cudaDataType, const void* w,
                                                   cudaDataType, std::size_t* device,
                                                   std::size_t* host, std::int64_t batch);
cusolverStatus_t cusolverDnXsyevBatched(cusolverDnHandle_t, cusolverDnParams_t, cusolverEigMode_t,
                                        cublasFillMode_t, std::int64_t n, cudaDataType, void* a,
                                        std::int64_t lda, cudaDataType, void* w, cudaDataType,
                                        void* device, std::size_t device_bytes, void* host,
                                        std::size_t host_bytes, int* info, std::int64_t batch);
