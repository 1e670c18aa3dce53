// Selection and sums over kept (token, latent) pairs, for float32 on a CPU.
//
// Plain C functions on raw pointers, called through ctypes: no header of torch or of Python is needed to
// build them, and no release of either breaks them. All matrices are contiguous, row after row. Every output
// element is computed by one thread in a fixed order, so results do not depend on the number of threads.

#if __has_include(<Python.h>)
#include <Python.h>
#endif

#include <algorithm>
#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__linux__)
#define EVERY_PROCESSOR __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define EVERY_PROCESSOR
#endif
#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {

constexpr int64_t kBlock = 64;
constexpr int64_t kRowsPerTask = 16;

struct Candidate {
    float value;
    int32_t latent;
};

// Larger values first, equal ones by their place: a total order, so what is kept does not depend on the path.
inline bool before(const Candidate &a, const Candidate &b) {
    return a.value > b.value || (a.value == b.value && a.latent < b.latent);
}

// Append what exceeds the floor; returns the new length. The buffer has room for the whole block.
inline int64_t append_above(const float *row, int64_t start, int64_t stop, float floor, Candidate *buffer,
                            int64_t length) {
    for (int64_t i = start; i < stop; ++i) {
        buffer[length] = {row[i], static_cast<int32_t>(i)};
        length += row[i] > floor;
    }
    return length;
}

EVERY_PROCESSOR int64_t gather_candidates(const float *row, int64_t n_latents, int64_t k, float floor,
                                          Candidate *buffer, int64_t capacity) {
    int64_t length = 0;
    for (int64_t start = 0; start < n_latents; start += kBlock) {
        const int64_t stop = std::min(start + kBlock, n_latents);
        if (stop - start == kBlock) {
            const float *values = row + start;
            int any = 0;
            for (int i = 0; i < kBlock; ++i) any |= values[i] > floor;
            if (!any) continue;
        }
        length = append_above(row, start, stop, floor, buffer, length);
        if (length + kBlock > capacity) {
            std::nth_element(buffer, buffer + (k - 1), buffer + length, before);
            length = k;
            floor = buffer[k - 1].value;
        }
    }
    return length;
}

// The k largest of one row, largest first. A row of NaN gives NaN: a loss made of it is refused later.
void top_of_row(const float *row, int64_t n_latents, int64_t k, float guess, Candidate *buffer, int64_t capacity,
                float *values, int64_t *latents) {
    constexpr float lowest = -std::numeric_limits<float>::infinity();
    int64_t length = gather_candidates(row, n_latents, k, guess, buffer, capacity);
    if (length < k) length = gather_candidates(row, n_latents, k, lowest, buffer, capacity);
    if (length > k) std::nth_element(buffer, buffer + (k - 1), buffer + length, before);
    const int64_t n_found = std::min(length, k);
    std::sort(buffer, buffer + n_found, before);
    for (int64_t i = 0; i < k; ++i) {
        values[i] = i < n_found ? buffer[i].value : std::numeric_limits<float>::quiet_NaN();
        latents[i] = i < n_found ? buffer[i].latent : i;
    }
}

// The k-th largest positive value of one row, 0 where fewer are positive.
EVERY_PROCESSOR float smallest_kept(const float *row, int64_t n_latents, int64_t k, float *buffer) {
    int64_t length = 0;
    for (int64_t i = 0; i < n_latents; ++i) {
        buffer[length] = row[i];
        length += row[i] > 0;
    }
    if (length < k) return 0;
    std::nth_element(buffer, buffer + (k - 1), buffer + length, std::greater<float>());
    return buffer[k - 1];
}

EVERY_PROCESSOR int64_t count_above(const float *row, int64_t n_latents, float floor) {
    int32_t count = 0;
    for (int64_t i = 0; i < n_latents; ++i) count += row[i] > floor;
    return count;
}

EVERY_PROCESSOR void copy_above(const float *row, int64_t n_latents, float floor, int64_t *latents, float *values) {
    for (int64_t start = 0; start < n_latents; start += kBlock) {
        const int64_t stop = std::min(start + kBlock, n_latents);
        int any = 0;
        for (int64_t i = start; i < stop; ++i) any |= row[i] > floor;
        if (!any) continue;
        for (int64_t i = start; i < stop; ++i)
            if (row[i] > floor) {
                *latents++ = i;
                *values++ = row[i];
            }
    }
}

// Sum of weight * rows[source] over one run of pairs, four rows at a time so that the sum is read and written less.
EVERY_PROCESSOR void sum_run(const float *rows, const int64_t *sources, const float *weights, const int64_t *places,
                             int64_t n_pairs, int64_t width, float *__restrict__ sum) {
    for (int64_t i = 0; i < width; ++i) sum[i] = 0;
    int64_t p = 0;
    for (; p + 4 <= n_pairs; p += 4) {
        const int64_t at[4] = {places ? places[p] : p, places ? places[p + 1] : p + 1, places ? places[p + 2] : p + 2,
                               places ? places[p + 3] : p + 3};
        const float *a = rows + sources[at[0]] * width, *b = rows + sources[at[1]] * width;
        const float *c = rows + sources[at[2]] * width, *d = rows + sources[at[3]] * width;
        const float wa = weights[at[0]], wb = weights[at[1]], wc = weights[at[2]], wd = weights[at[3]];
        for (int64_t i = 0; i < width; ++i) sum[i] += (wa * a[i] + wb * b[i]) + (wc * c[i] + wd * d[i]);
    }
    for (; p < n_pairs; ++p) {
        const int64_t at = places ? places[p] : p;
        const float *row = rows + sources[at] * width;
        for (int64_t i = 0; i < width; ++i) sum[i] += weights[at] * row[i];
    }
}

// Of one latent: dots[pair] = gradient of the token . direction, and sum of value * gradient of the token.
EVERY_PROCESSOR void direction_gradient(const float *grads, const float *direction, const int64_t *tokens,
                                        const float *values, const int64_t *places, int64_t n_pairs, int64_t width,
                                        float *dots, float *__restrict__ sum) {
    for (int64_t i = 0; i < width; ++i) sum[i] = 0;
    for (int64_t p = 0; p < n_pairs; ++p) {
        const int64_t at = places[p];
        const float *__restrict__ row = grads + tokens[at] * width;
        const float value = values[at];
        float along = 0;
#pragma omp simd reduction(+ : along)
        for (int64_t i = 0; i < width; ++i) {
            along += row[i] * direction[i];
            sum[i] += value * row[i];
        }
        dots[at] = along;
    }
}

}  // namespace

EXPORT int64_t featlas_kernels_version() { return 2; }

// values, latents (n_rows, k): the k largest of each row of pre (n_rows, n_latents), largest first.
EXPORT void featlas_top_of_rows(const float *pre, int64_t n_rows, int64_t n_latents, int64_t k, float *values,
                                int64_t *latents, int64_t n_threads) {
    const int64_t capacity = std::max(4 * k, int64_t{128}) + kBlock;
    const int64_t n_tasks = (n_rows + kRowsPerTask - 1) / kRowsPerTask;
#pragma omp parallel num_threads(n_threads)
    {
        std::vector<Candidate> buffer(capacity);
#pragma omp for schedule(static)
        for (int64_t task = 0; task < n_tasks; ++task) {
            float guess = -std::numeric_limits<float>::infinity();
            for (int64_t n = task * kRowsPerTask; n < std::min(n_rows, (task + 1) * kRowsPerTask); ++n) {
                top_of_row(pre + n * n_latents, n_latents, k, guess, buffer.data(), capacity, values + n * k,
                           latents + n * k);
                const float smallest = values[n * k + k - 1];
                guess = smallest > 0 ? 0.9f * smallest : -std::numeric_limits<float>::infinity();
            }
        }
    }
}

// kept (n_rows): the k-th largest positive value of each row, 0 where fewer are positive.
EXPORT void featlas_smallest_kept(const float *pre, int64_t n_rows, int64_t n_latents, int64_t k, float *kept,
                                  int64_t n_threads) {
#pragma omp parallel num_threads(n_threads)
    {
        std::vector<float> buffer(n_latents + 1);
#pragma omp for schedule(static)
        for (int64_t n = 0; n < n_rows; ++n)
            kept[n] = smallest_kept(pre + n * n_latents, n_latents, k, buffer.data());
    }
}

// counts (n_rows): entries of each row strictly above the floor.
EXPORT void featlas_count_above(const float *pre, int64_t n_rows, int64_t n_latents, float floor, int64_t *counts,
                                int64_t n_threads) {
#pragma omp parallel for schedule(static) num_threads(n_threads)
    for (int64_t n = 0; n < n_rows; ++n) counts[n] = count_above(pre + n * n_latents, n_latents, floor);
}

// Their latents and values, row n from place starts[n] on.
EXPORT void featlas_copy_above(const float *pre, int64_t n_rows, int64_t n_latents, float floor,
                               const int64_t *starts, int64_t *latents, float *values, int64_t n_threads) {
#pragma omp parallel for schedule(static) num_threads(n_threads)
    for (int64_t n = 0; n < n_rows; ++n)
        copy_above(pre + n * n_latents, n_latents, floor, latents + starts[n], values + starts[n]);
}

// order (n_pairs): the pairs by latent, equal ones in their order; starts (n_latents + 1): the runs in it.
EXPORT void featlas_order_by_latent(const int64_t *latents, int64_t n_pairs, int64_t n_latents, int64_t *order,
                                    int64_t *starts) {
    std::fill(starts, starts + n_latents + 1, 0);
    for (int64_t p = 0; p < n_pairs; ++p) ++starts[latents[p] + 1];
    for (int64_t l = 0; l < n_latents; ++l) starts[l + 1] += starts[l];
    std::vector<int64_t> next(starts, starts + n_latents);
    for (int64_t p = 0; p < n_pairs; ++p) order[next[latents[p]]++] = p;
}

// sums (n_runs, width): per run of pairs the sum of weight * rows[source]. Run r is order[starts[r]:starts[r + 1]];
// without an order it is the pairs themselves.
EXPORT void featlas_sum_runs(const float *rows, int64_t width, const int64_t *sources, const float *weights,
                             const int64_t *order, const int64_t *starts, int64_t n_runs, float *sums,
                             int64_t n_threads) {
#pragma omp parallel for schedule(dynamic, 64) num_threads(n_threads)
    for (int64_t r = 0; r < n_runs; ++r) {
        const int64_t first = starts[r], n_pairs = starts[r + 1] - first;
        if (order)
            sum_run(rows, sources, weights, order + first, n_pairs, width, sums + r * width);
        else
            sum_run(rows, sources + first, weights + first, nullptr, n_pairs, width, sums + r * width);
    }
}

// The gradients of codes @ directions from grads (n_tokens, width): dots (n_pairs) of the kept codes and
// sums (n_latents, width) of the directions.
EXPORT void featlas_direction_gradients(const float *grads, const float *directions, int64_t width,
                                        const int64_t *tokens, const float *values, const int64_t *order,
                                        const int64_t *starts, int64_t n_latents, float *dots, float *sums,
                                        int64_t n_threads) {
#pragma omp parallel for schedule(dynamic, 64) num_threads(n_threads)
    for (int64_t l = 0; l < n_latents; ++l)
        direction_gradient(grads, directions + l * width, tokens, values, order + starts[l], starts[l + 1] - starts[l],
                           width, dots, sums + l * width);
}

#ifdef Py_PYTHON_H
// The file has the name of an extension module, so it can be imported as one: it is empty.
PyMODINIT_FUNC PyInit__native() {
    static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "_native", nullptr, -1, nullptr, nullptr, nullptr, nullptr, nullptr};
    return PyModule_Create(&definition);
}
#endif
