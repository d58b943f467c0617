/* mmio.c - the exact accessors and the fences.
 *
 * Each accessor is a function of its own in a shared library, with one volatile access inside.
 * That is the whole trick: gcc emits exactly that load or store, and a caller's optimiser, LuaJIT's
 * trace compiler above all, sees only an opaque call that it may neither repeat nor drop nor move
 * memory accesses across. The volatile access alone would not do: LuaJIT ignores volatile. */
#include "internal.h"

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
