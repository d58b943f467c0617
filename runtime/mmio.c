/* mmio.c - the exact accessors and the fences.
 *
 * Each accessor is a function of its own in a shared library, with one volatile access inside. gcc
 * emits exactly that load or store. A caller's optimiser, above all LuaJIT's trace compiler, sees
 * an opaque call; it may not repeat or drop the call, nor move memory accesses across it. The
 * volatile access alone would not be enough, because LuaJIT ignores volatile. */
#include "internal.h"

#include <string.h>

#define ACCESSORS(bits)                                         \
  uint##bits##_t luio_read##bits(const volatile void *p)        \
  {                                                             \
    return *(const volatile uint##bits##_t *)p;                 \
  }                                                             \
  void luio_write##bits(volatile void *p, uint##bits##_t value) \
  {                                                             \
    *(volatile uint##bits##_t *)p = value;                      \
  }

#define SWAPPED_ACCESSORS(bits)                                           \
  uint##bits##_t luio_read##bits##_swapped(const volatile void *p)        \
  {                                                                       \
    return __builtin_bswap##bits(*(const volatile uint##bits##_t *)p);    \
  }                                                                       \
  void luio_write##bits##_swapped(volatile void *p, uint##bits##_t value) \
  {                                                                       \
    *(volatile uint##bits##_t *)p = __builtin_bswap##bits(value);         \
  }

ACCESSORS(8)
ACCESSORS(16)
ACCESSORS(32)
ACCESSORS(64)
SWAPPED_ACCESSORS(16)
SWAPPED_ACCESSORS(32)
SWAPPED_ACCESSORS(64)

/* The volatile side decides: bytes until it is aligned, words, and the bytes that are left. */
void luio_copy_in(volatile void *to, const void *from, uint64_t size)
{
  volatile uint8_t *t = to;
  const uint8_t *f = from;
  for (; size && (uintptr_t)t % 4; size--)
    *t++ = *f++;
  for (uint32_t word; size >= 4; size -= 4, t += 4, f += 4) {
    memcpy(&word, f, sizeof word);
    *(volatile uint32_t *)t = word;
  }
  while (size--)
    *t++ = *f++;
}

void luio_copy_out(void *to, const volatile void *from, uint64_t size)
{
  uint8_t *t = to;
  const volatile uint8_t *f = from;
  for (; size && (uintptr_t)f % 4; size--)
    *t++ = *f++;
  for (uint32_t word; size >= 4; size -= 4, t += 4, f += 4) {
    word = *(const volatile uint32_t *)f;
    memcpy(t, &word, sizeof word);
  }
  while (size--)
    *t++ = *f++;
}

void luio_fill(volatile void *to, uint8_t value, uint64_t size)
{
  volatile uint8_t *t = to;
  for (; size && (uintptr_t)t % 4; size--)
    *t++ = value;
  for (; size >= 4; size -= 4, t += 4)
    *(volatile uint32_t *)t = value * 0x01010101u;
  while (size--)
    *t++ = value;
}

void luio_fence_doorbell(void)
{
#if defined(__aarch64__)
  __asm__ volatile("dmb oshst" ::: "memory");
#elif defined(__x86_64__)
  __asm__ volatile("" ::: "memory"); /* stores are seen in order: Intel SDM 3A, 9.2.2 */
#else
  __sync_synchronize();
#endif
}

void luio_fence_flag(void)
{
#if defined(__aarch64__)
  __asm__ volatile("dmb oshld" ::: "memory");
#elif defined(__x86_64__)
  __asm__ volatile("" ::: "memory"); /* loads are done in order: Intel SDM 3A, 9.2.2 */
#else
  __sync_synchronize();
#endif
}

void luio_fence_full(void)
{
#if defined(__aarch64__)
  __asm__ volatile("dmb osh" ::: "memory");
#elif defined(__x86_64__)
  /* The one order there is not by itself, Intel SDM 3A, 9.2.3.4. */
  __asm__ volatile("mfence" ::: "memory");
#else
  __sync_synchronize();
#endif
}
