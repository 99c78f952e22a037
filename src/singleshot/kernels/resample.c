/* Resize an image of bytes by weighted sums of neighbouring pixels, first down the columns, then along the rows, in
 * float32; rounded and clamped to bytes once. Any separable interpolation is a table of places and weights. Beyond its
 * edge the image repeats its last pixel.
 *
 * Four floats from a pixel's first on are computed together; the fourth is the next pixel's and is written over by it.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef float four __attribute__((vector_size(16)));

typedef struct {
    int64_t size;         /* positions of the output along this axis */
    int64_t taps;         /* pixels that each one takes, at most */
    const int64_t *first; /* [size] in the image: -taps .. its size */
    const float *weight;  /* [size, taps] */
} filter;

static const uint8_t *row_at(const uint8_t *image, int64_t stride, int64_t height, int64_t y)
{
    return image + (y < 0 ? 0 : y < height ? y : height - 1) * stride;
}

/* Weighted sum of rows of the image: [length] floats. Four rows at a time, so that sums seldom pass through memory. */
static void sum_rows(const uint8_t *image, int64_t stride, int64_t height, int64_t length, const filter *down,
                     int64_t y, float *restrict total)
{
    for (int64_t tap = 0; tap < down->taps; tap += 4) {
        const uint8_t *row[4];
        float weight[4];
        for (int64_t next = 0; next < 4; next++) {
            row[next] = row_at(image, stride, height, down->first[y] + tap + next);
            weight[next] = tap + next < down->taps ? down->weight[y * down->taps + tap + next] : 0.0f;
        }
        for (int64_t x = 0; x < length; x++) {
            float sum = weight[0] * (float)row[0][x] + weight[1] * (float)row[1][x] + weight[2] * (float)row[2][x] +
                        weight[3] * (float)row[3][x];
            total[x] = tap ? total[x] + sum : sum;
        }
    }
}

/* The row's first and last pixels once more for each of `margin` pixels before and after it. */
static void repeat_edges(float *row, int64_t width, int64_t margin)
{
    for (int64_t x = 0; x < margin; x++) {
        memcpy(row - 3 * (x + 1), row, 3 * sizeof(float));
        memcpy(row + 3 * (width + x), row + 3 * (width - 1), 3 * sizeof(float));
    }
}

/* row: 3 floats a pixel; out: [3 * size + 1]. */
static inline void sum_columns(const float *restrict row, const filter *across, int64_t taps, float *restrict out)
{
    const float *weight = across->weight;
    for (int64_t x = 0; x < across->size; x++, weight += taps) {
        const float *from = row + 3 * across->first[x];
        four total = {0};
        for (int64_t tap = 0; tap < taps; tap++) {
            four pixel;
            memcpy(&pixel, from + 3 * tap, sizeof pixel);
            total += weight[tap] * pixel;
        }
        memcpy(out + 3 * x, &total, sizeof total);
    }
}

static void round_to_bytes(const float *restrict values, int64_t count, uint8_t *restrict out)
{
    for (int64_t x = 0; x < count; x++) {
        float value = values[x] < 0.0f ? 0.0f : values[x] > 255.0f ? 255.0f : values[x];
        out[x] = (uint8_t)(int32_t)__builtin_rintf(value);
    }
}

/* image: [height, width, 3], a row every `stride` bytes; out: [down.size, across.size, 3]. 0, or -1 without memory. */
int filter_image(const uint8_t *image, int64_t height, int64_t width, int64_t stride, const filter *down,
                 const filter *across, uint8_t *out)
{
    /* A pixel that begins at the image's size ends `taps` later, and is read with a float too many. */
    int64_t margin = across->taps, padded = 3 * (width + 2 * margin) + 1, out_length = 3 * across->size;
    float *memory = calloc((size_t)(padded + out_length + 1), sizeof(float));
    if (!memory) return -1;
    float *total = memory + 3 * margin, *row = memory + padded;
    for (int64_t y = 0; y < down->size; y++) {
        sum_rows(image, stride, height, 3 * width, down, y, total);
        repeat_edges(total, width, margin);
        if (across->taps == 8)
            sum_columns(total, across, 8, row);
        else
            sum_columns(total, across, across->taps, row);
        round_to_bytes(row, out_length, out + y * out_length);
    }
    free(memory);
    return 0;
}
