/* faultpage.c - counts the accesses to a page, in a way that no compiler can fool.
 *
 * The page has no permissions, so every load and store faults. The handler notes the access (where,
 * how wide, which way), opens the page, sets the CPU's trap flag and returns: the instruction runs
 * once, traps, and the second handler closes the page again. So the count is of the CPU's accesses,
 * independent of LuaJIT's and gcc's code. The width is read from the instruction itself.
 *
 * x86-64 only. One page, one thread. Test support: not part of the runtime. */
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#define SIZE 4096
#define MAX_LOG 65536
#define TRAP_FLAG 0x100
#define WRITE_FAULT 2 /* page-fault error code, Intel SDM 3A, 4.7 */

struct faultpage_access {
  uint32_t offset;
  uint8_t width; /* bits; 0: an instruction that is not a plain move */
  uint8_t is_write;
};

void *faultpage_open(void);
void faultpage_close(void);
void faultpage_reset(void);
uint64_t faultpage_count(void);
const struct faultpage_access *faultpage_log(uint64_t i);

static uint8_t *page;
static struct faultpage_access entries[MAX_LOG];
static uint64_t count;
static struct sigaction old_segv, old_trap;

/* The operand size of a move: prefixes, REX.W, then the opcode (Intel SDM 2, MOV and MOVZX). */
static unsigned width_of(const uint8_t *ip)
{
  unsigned size = 32;
  for (;; ip++) {
    if (*ip == 0x66)
      size = 16;
    else if ((*ip & 0xf0) == 0x40) {
      if (*ip & 0x08)
        size = 64;
    } else {
      break;
    }
  }
  switch (ip[0]) {
  case 0x88:
  case 0x8a:
  case 0xc6: return 8;
  case 0x89:
  case 0x8b:
  case 0xc7: return size;
  case 0x0f:
    if (ip[1] == 0xb6 || ip[1] == 0xbe)
      return 8;
    if (ip[1] == 0xb7 || ip[1] == 0xbf)
      return 16;
    return 0;
  default: return 0;
  }
}

static void on_segv(int sig, siginfo_t *info, void *context)
{
  ucontext_t *u = context;
  uint8_t *at = info->si_addr;
  if (!page || at < page || at >= page + SIZE) { /* somebody's real bug */
    sigaction(sig, &old_segv, NULL);
    return;
  }
  if (count < MAX_LOG) {
    entries[count].offset = (uint32_t)(at - page);
    entries[count].width = (uint8_t)width_of((const uint8_t *)u->uc_mcontext.gregs[REG_RIP]);
    entries[count].is_write = !!(u->uc_mcontext.gregs[REG_ERR] & WRITE_FAULT);
  }
  count++;
  mprotect(page, SIZE, PROT_READ | PROT_WRITE);
  u->uc_mcontext.gregs[REG_EFL] |= TRAP_FLAG;
}

static void on_trap(int sig, siginfo_t *info, void *context)
{
  (void)sig;
  (void)info;
  ucontext_t *u = context;
  u->uc_mcontext.gregs[REG_EFL] &= ~TRAP_FLAG;
  mprotect(page, SIZE, PROT_NONE);
}

void *faultpage_open(void)
{
  page = mmap(NULL, SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) {
    page = NULL;
    return NULL;
  }
  count = 0;
  struct sigaction segv = {.sa_sigaction = on_segv, .sa_flags = SA_SIGINFO};
  struct sigaction trap = {.sa_sigaction = on_trap, .sa_flags = SA_SIGINFO};
  sigaction(SIGSEGV, &segv, &old_segv);
  sigaction(SIGTRAP, &trap, &old_trap);
  return page;
}

void faultpage_close(void)
{
  if (!page)
    return;
  munmap(page, SIZE);
  page = NULL;
  sigaction(SIGSEGV, &old_segv, NULL);
  sigaction(SIGTRAP, &old_trap, NULL);
}

void faultpage_reset(void)
{
  count = 0;
}

uint64_t faultpage_count(void)
{
  return count;
}

const struct faultpage_access *faultpage_log(uint64_t i)
{
  return i < count && i < MAX_LOG ? &entries[i] : NULL;
}
