/* port.c - I/O ports: x86 port instructions where this thread may use them.
 *
 * A port is reached in two ways. With sysfs resourceN, one pread or pwrite is one port access. It
 * needs only a descriptor, which can be disconnected when the device goes away, but it exists for
 * PCI devices only, and a system call often costs more than the port access. With ioperm a thread
 * may use the port instructions. So ioperm is tried first; if the kernel refuses it (no
 * CAP_SYS_RAWIO, lockdown), resourceN is used. Ports of a UIO driver are reached by ioperm only.
 * iopl is not used, because it would give all 65536 ports; ioperm also covers all of them since
 * Linux 2.6.8.
 *
 * ioperm applies to one thread. A thread without the right to a port raises SIGSEGV when it uses the
 * port. So each thread records its ports, and asks for missing ones at the first access. A new thread
 * has its creator's ports, and inherits the record (luio_port_inherit), because ioperm fails once
 * root was given up. Two regions may cover the same ports (one handle drives the device, another
 * reads it), so a thread gives ports back only when no region of this process covers them.
 *
 * Unlike mappings, port rights survive fork and exec, so a program that luio starts could use the
 * ports; it has luio's rights anyway. A port has no placeholder: when a device goes away, an access
 * that is between its check and its instruction still reaches the port. */
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
  /* Stale rights of other threads do no harm, because ports are accessed only through a region. */
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
