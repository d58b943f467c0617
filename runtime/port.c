/* port.c - I/O ports: x86 port instructions where this thread may use them.
 *
 * Two ways lead to a port. sysfs resourceN takes one pread or pwrite as one port access, needs its
 * descriptor and nothing else, and can be led nowhere when the device goes; but it is there for PCI
 * devices only, and a system call costs more than many a port access. ioperm lets a thread use the
 * instructions themselves. So: ioperm first, and where the kernel refuses it (no CAP_SYS_RAWIO,
 * lockdown) resourceN. Ports that a UIO driver declares can be had by ioperm only. iopl would give
 * all 65536 ports where a few are wanted; ioperm reaches all of them, too, since Linux 2.6.8.
 *
 * ioperm is a matter of threads. A thread that was not given a port and uses it dies of SIGSEGV, so
 * each remembers what it has; what it has not yet it asks for at its first access. New threads start
 * with what their maker has, and are told so (luio_port_inherit), because asking again is refused
 * once root was given up. Two regions may be over the same ports (a device that is driven, and looked
 * at): a thread gives ports back only when no region of this process is over them any more.
 *
 * Unlike mappings, ports are kept over fork and exec: a program that luio starts could use them. It
 * is started with the rights that luio has itself. And nothing can be put in place of a port: when a
 * device goes away, an access that is between its check and its instruction still gets there. */
#include "kernel.h"

#include <errno.h>
#include <string.h>

/* The regions that this thread may use: their ids, each at its place modulo the table's size. One that gave way
 * to another is asked for again. */
static _Thread_local luio_port_rights mine;

#if defined(__x86_64__) || defined(__i386__)
#include <sys/io.h>

/* Regions that are over ports, in this process. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static luio_region *regions;
static uint64_t last_id;

static int ask(luio_region *r)
{
  if (r->addr > 0xffff || r->size > 0x10000 - r->addr)
    return -EINVAL;
  if (ioperm((unsigned long)r->addr, (unsigned long)r->size, 1) < 0)
    return -errno;
  mine.id[r->port_id % LUIO_PORT_RIGHTS] = r->port_id;
  return 0;
}

static void give_back(const luio_region *r)
{
  /* Stale rights of other threads do no harm: nobody accesses a port but through a region. */
  if (mine.id[r->port_id % LUIO_PORT_RIGHTS] == r->port_id)
    mine.id[r->port_id % LUIO_PORT_RIGHTS] = 0;
  for (const luio_region *o = regions; o; o = o->next_port)
    if (o->addr < r->addr + r->size && r->addr < o->addr + o->size)
      return;
  ioperm((unsigned long)r->addr, (unsigned long)r->size, 0);
}

int luio_port_open(luio_region *r)
{
  pthread_mutex_lock(&lock);
  r->port_id = ++last_id;
  int rc = ask(r);
  if (rc == 0) {
    r->next_port = regions;
    regions = r;
  } else {
    r->port_id = 0;
  }
  pthread_mutex_unlock(&lock);
  return rc;
}

void luio_port_close(luio_region *r)
{
  if (!r->port_id)
    return;
  pthread_mutex_lock(&lock);
  luio_region **p = &regions;
  while (*p && *p != r)
    p = &(*p)->next_port;
  if (*p)
    *p = r->next_port;
  give_back(r);
  r->port_id = 0;
  pthread_mutex_unlock(&lock);
}

bool luio_port_usable(luio_region *r)
{
  uint64_t id = r->port_id;
  return id && (mine.id[id % LUIO_PORT_RIGHTS] == id || ask(r) == 0);
}

uint64_t luio_port_in(uint64_t port, unsigned width)
{
  uint16_t at = (uint16_t)port;
  switch (width) {
  case 8: return inb(at);
  case 16: return inw(at);
  default: return inl(at);
  }
}

void luio_port_out(uint64_t port, unsigned width, uint64_t value)
{
  uint16_t at = (uint16_t)port;
  switch (width) {
  case 8: outb((uint8_t)value, at); break;
  case 16: outw((uint16_t)value, at); break;
  default: outl((uint32_t)value, at); break;
  }
}

void luio_port_ins(uint64_t port, unsigned width, void *to, uint64_t n)
{
  uint16_t at = (uint16_t)port;
  switch (width) {
  case 8: insb(at, to, n); break;
  case 16: insw(at, to, n); break;
  default: insl(at, to, n); break;
  }
}

void luio_port_outs(uint64_t port, unsigned width, const void *from, uint64_t n)
{
  uint16_t at = (uint16_t)port;
  switch (width) {
  case 8: outsb(at, from, n); break;
  case 16: outsw(at, from, n); break;
  default: outsl(at, from, n); break;
  }
}

#else /* no port instructions */

int luio_port_open(luio_region *r)
{
  (void)r;
  return -ENOSYS;
}

void luio_port_close(luio_region *r)
{
  (void)r;
}

bool luio_port_usable(luio_region *r)
{
  (void)r;
  return false;
}

uint64_t luio_port_in(uint64_t port, unsigned width)
{
  (void)port;
  (void)width;
  return UINT64_MAX;
}

void luio_port_out(uint64_t port, unsigned width, uint64_t value)
{
  (void)port;
  (void)width;
  (void)value;
}

void luio_port_ins(uint64_t port, unsigned width, void *to, uint64_t n)
{
  (void)port;
  memset(to, 0xff, width / 8 * n);
}

void luio_port_outs(uint64_t port, unsigned width, const void *from, uint64_t n)
{
  (void)port;
  (void)width;
  (void)from;
  (void)n;
}

#endif

luio_port_rights luio_port_mine(void)
{
  return mine;
}

void luio_port_inherit(const luio_port_rights *rights)
{
  mine = *rights;
}
