/* What two cores multiply when they do nothing else: multiply-adds on registers, in fp32, bf16 and int8.

   gcc -O3 -funroll-all-loops -march=native benchmarks/peak.c -lpthread -o peak && ./peak

   It needs AVX-512 with bf16 and VNNI (Zen 4, Sapphire Rapids and later). Times are the threads' own CPU times. */

#include <immintrin.h>
#include <pthread.h>
#include <stdio.h>
#include <time.h>

#define THREADS 2
#define CHAINS 14 /* independent sums: more than the latency of a multiply-add */
#define ROUNDS 20000000L

struct rate {
    double fp32, bf16, int8, sum; /* 10^9 operations a second; the sum keeps the loops from being removed */
};

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec + 1e-9 * now.tv_nsec;
}

static void *measure(void *result) {
    struct rate *rate = result;
    __m512 sums[CHAINS];
    __m512 factor = _mm512_set1_ps(0.999f), term = _mm512_set1_ps(1e-4f);
    __m512bh ones = (__m512bh)_mm512_set1_epi16(0x3f80);
    for (int i = 0; i < CHAINS; i++) sums[i] = _mm512_set1_ps(i * 1e-3f);
    double start = seconds();
    for (long round = 0; round < ROUNDS; round++)
        for (int i = 0; i < CHAINS; i++) sums[i] = _mm512_fmadd_ps(sums[i], factor, term);
    rate->fp32 = ROUNDS * CHAINS * 32.0 / (seconds() - start) / 1e9;
    for (int i = 0; i < CHAINS; i++) rate->sum += _mm512_reduce_add_ps(sums[i]);
    start = seconds();
    for (long round = 0; round < ROUNDS; round++)
        for (int i = 0; i < CHAINS; i++) sums[i] = _mm512_dpbf16_ps(sums[i], ones, ones);
    rate->bf16 = ROUNDS * CHAINS * 64.0 / (seconds() - start) / 1e9;
    for (int i = 0; i < CHAINS; i++) rate->sum += _mm512_reduce_add_ps(sums[i]);
    __m512i whole[CHAINS], bytes = _mm512_set1_epi8(1);
    for (int i = 0; i < CHAINS; i++) whole[i] = _mm512_set1_epi32(i);
    start = seconds();
    for (long round = 0; round < ROUNDS; round++)
        for (int i = 0; i < CHAINS; i++) whole[i] = _mm512_dpbusd_epi32(whole[i], bytes, bytes);
    rate->int8 = ROUNDS * CHAINS * 128.0 / (seconds() - start) / 1e9;
    for (int i = 0; i < CHAINS; i++) rate->sum += _mm512_reduce_add_epi32(whole[i]);
    return 0;
}

int main(void) {
    pthread_t threads[THREADS];
    struct rate rates[THREADS] = {{0}};
    double fp32 = 0, bf16 = 0, int8 = 0, sum = 0;
    for (int i = 0; i < THREADS; i++) pthread_create(&threads[i], 0, measure, &rates[i]);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], 0);
        fp32 += rates[i].fp32, bf16 += rates[i].bf16, int8 += rates[i].int8, sum += rates[i].sum;
    }
    printf("fp32 %.0f, bf16 %.0f, int8 %.0f G operations/s (sum %g)\n", fp32, bf16, int8, sum);
    return 0;
}
