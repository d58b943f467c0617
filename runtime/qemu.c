/* qemu.c - a QEMU machine without a guest: its start and its end, and its memory.
 *
 * The machine's CPU executes one instruction, hlt, and stays there, or is off from the start; its timers and so its devices' own
 * work go on. (With QEMU's -S they would stand still.) The memory is a memfd that both processes map. Its first chunk is left
 * alone, so that 0 is no buffer, and for the device tree that some machines have there. */
#include "qemu.h"
#include "kernel.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ARGUMENTS = 28, BIOS_SIZE = 65536 };

#define MOST_MEMORY (2ull << 30)
#define ROOM_FOR_MEMORY (30ull << 30)

static const struct luio_qemu_kind kinds[] = {
    {.machine = "q35",
     .more = {"-bios", "/proc/self/fd/6",                                      /* QEMU_BIOS */
              "-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off"}, /* qemu_hotplug.c */
     .package = "qemu-system-x86",
     .hello = "irq_intercept_in ioapic"},
    {.machine = "virt",
     .more = {"-global", "arm-cpu.start-powered-off=on"}, /* as PSCI would have it: no firmware */
     .package = "qemu-system-arm",
     .hello = "readl 0x40000000",
     .ram = 0x40000000,
     .tree = true},
};

static const struct luio_qemu_kind *kind_of(const char *machine)
{
  for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
    if (!strcmp(kinds[i].machine, machine))
      return &kinds[i];
  return NULL;
}

/* The arguments of the machine itself, before the caller's; the doorbell's come after them, so that it takes none of the places on
 * the bus that the caller's devices would have. */
static char **arguments(const luio_qemu *q, char text[4][192])
{
  const luio_qemu_config *c = &q->config;
  size_t n = 0;
  while (c->argv[n])
    n++;
  char **argv = calloc(n + ARGUMENTS, sizeof *argv);
  if (!argv)
    return NULL;
  unsigned long long mib = c->memory >> 20;
  luio_format(text[0], 192, "%s,memory-backend=luio-memory", c->machine);
  luio_format(text[1], 192,
              "memory-backend-file,id=luio-memory,size=%lluM,mem-path=/proc/self/fd/%d,share=on",
              mib, QEMU_RAM);
  luio_format(text[2], 192, "%lluM", mib);
  luio_format(text[3], 192, "socket,id=luio-doorbell,fd=%d", QEMU_DOORBELL);
  char *own[] = {"-nodefaults", "-no-user-config",
                 "-display",    "none",
                 "-M",          text[0],
                 "-object",     text[1],
                 "-m",          text[2],
                 "-chardev",    "socket,id=luio-qtest,fd=3",
                 "-object",     "qtest,id=luio,chardev=luio-qtest,log=/dev/null",
                 "-chardev",    "socket,id=luio-qmp,fd=4",
                 "-mon",        "chardev=luio-qmp,mode=control"};
  static char device[] =
      "ivshmem-doorbell,id=luio-doorbell,chardev=luio-doorbell,vectors=512,ioeventfd=off";
  char *doorbell[] = {"-chardev", text[3], "-device", device};
  char **to = argv;
  *to++ = (char *)(uintptr_t)c->argv[0];
  for (size_t i = 0; i < sizeof own / sizeof *own; i++)
    *to++ = own[i];
  for (size_t i = 0; i < QEMU_MORE && q->kind->more[i]; i++)
    *to++ = (char *)(uintptr_t)q->kind->more[i];
  for (size_t i = 1; i < n; i++)
    *to++ = (char *)(uintptr_t)c->argv[i];
  for (size_t i = 0; c->messages && i < sizeof doorbell / sizeof *doorbell; i++)
    *to++ = doorbell[i];
  return argv;
}

/* A memfd of a program that does nothing. */
static int halt(void)
{
  uint8_t hlt[4096];
  memset(hlt, 0xf4, sizeof hlt);
  int fd = memfd_create("halt", MFD_CLOEXEC);
  for (int i = 0; fd >= 0 && i < BIOS_SIZE / 4096; i++)
    if (write(fd, hlt, sizeof hlt) != sizeof hlt) {
      close(fd);
      return -1;
    }
  return fd;
}

static int map_memory(luio_qemu *q, int fd, const char *verb, luio_error *err)
{
  void *at = mmap(NULL, q->config.memory, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  q->memory = fd;
  if (at == MAP_FAILED)
    return luio_fail(err, errno, "%s %s: map %llu bytes of its memory: %s%s", verb, q->program,
                     (unsigned long long)q->config.memory, luio_errno_name(errno),
                     luio_qemu_remedy(errno));
  madvise(at, q->config.memory, MADV_DONTFORK);
  q->ram = at;
  return 0;
}

static size_t chunks_size(const luio_qemu *q)
{
  return q->config.memory / QEMU_CHUNK * sizeof *q->chunks;
}

/* Which chunks are in use: private, or the guardian's (fd). */
static int map_chunks(luio_qemu *q, int fd, const char *verb, luio_error *err)
{
  int flags = fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
  void *at = mmap(NULL, chunks_size(q), PROT_READ | PROT_WRITE, flags, fd, 0);
  if (at == MAP_FAILED)
    return luio_fail(err, errno, "%s %s: mmap: %s%s", verb, q->program, luio_errno_name(errno),
                     luio_qemu_remedy(errno));
  madvise(at, chunks_size(q), MADV_DONTFORK);
  q->chunks = at;
  return 0;
}

/* What QEMU gets, by the numbers of its descriptors; and the reading end of the lifeline. */
struct ends {
  int qemu[QEMU_FDS], lifeline;
};

static int socket_pair(int *ours, int *theirs)
{
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
    return -errno;
  *ours = pair[0];
  *theirs = pair[1];
  return 0;
}

/* The descriptors of a new machine, where no guardian has made them. */
static int make_ends(luio_qemu *q, struct ends *e)
{
  int rc = socket_pair(&q->qtest, &e->qemu[0]);
  if (rc == 0)
    rc = socket_pair(&q->qmp, &e->qemu[1]);
  if (rc == 0) {
    q->memory = memfd_create("machine memory", MFD_CLOEXEC);
    rc = q->memory < 0 || ftruncate(q->memory, (off_t)q->config.memory) < 0 ? -errno : 0;
  }
  return rc;
}

static void use_guardians(luio_qemu *q, struct ends *e)
{
  const int *fd = q->guard.fd;
  q->qtest = fd[GUARD_QTEST];
  q->qmp = fd[GUARD_QMP];
  if (q->config.messages)
    q->doorbell.socket = fd[GUARD_DOORBELL];
  else
    close(fd[GUARD_DOORBELL]);
  q->memory = fd[GUARD_RAM];
  q->process.log = fd[GUARD_LOG];
  q->process.lifeline = fd[GUARD_LIFELINE];
  e->qemu[0] = fd[GUARD_QTEST_THEIRS];
  e->qemu[1] = fd[GUARD_QMP_THEIRS];
  e->qemu[4] = fd[GUARD_DOORBELL_THEIRS];
  e->lifeline = fd[GUARD_LIFELINE_THEIRS];
}

static int start(luio_qemu *q, struct ends *e, luio_error *err)
{
  char text[4][192];
  char **argv = arguments(q, text);
  if (!argv)
    return luio_fail(err, ENOMEM, "start %s: ENOMEM%s", q->program, luio_qemu_remedy(ENOMEM));
  int rc = q->guard.given ? 0 : make_ends(q, e);
  e->qemu[3] = halt();
  if (rc == 0 && e->qemu[3] < 0)
    rc = -errno;
  if (rc < 0)
    luio_fail(err, -rc, "start %s: %s%s", q->program, luio_errno_name(-rc), luio_qemu_remedy(-rc));
  else if (q->config.messages && (rc = luio_doorbell_start(&q->doorbell, &e->qemu[4])) < 0)
    luio_fail(err, -rc, "start %s: a way for its messages: %s%s", q->program, luio_errno_name(-rc),
              luio_qemu_remedy(-rc));
  else
    rc = map_memory(q, q->memory, "start", err);
  if (rc == 0) {
    int fds[QEMU_FDS];
    memcpy(fds, e->qemu, sizeof fds);
    fds[2] = q->memory;
    if (!q->config.messages)
      fds[4] = -1;
    rc = luio_qemu_spawn(&q->process, argv, fds, e->lifeline, err);
  }
  if (rc == 0)
    rc = luio_guard_machine_runs(&q->guard, q->process.pid, q->process.minder, err);
  free(argv);
  return rc;
}

/* A machine of the worker before, which may have died at any point. */
static int resume(luio_qemu *q, luio_error *err)
{
  q->process.pid = q->guard.pid;
  int rc = map_memory(q, q->memory, "take over", err);
  if (rc == 0)
    rc = luio_qemu_bus_resync(q, err);
  if (rc == 0)
    rc = luio_qmp_resync(q->qmp, q->config.answer_ns, q->program, err);
  if (rc == 0 && q->config.messages)
    rc = luio_doorbell_resume(&q->doorbell);
  return rc;
}

/* The machine is the parent's: it ends with that one, and the child has no way to it. */
static void forked(void *of)
{
  luio_qemu *q = of;
  luio_qemu_bus_forked(q);
  luio_devnull_replace(q->qmp);
  luio_devnull_replace(q->memory);
  if (q->chunks) /* those are the parent's; these are for its devices, which are closed here, too */
    (void)mmap(q->chunks, chunks_size(q), PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  luio_doorbell_forked(&q->doorbell);
  luio_qemu_forked(&q->process);
}

/* A machine that is not there yet. verb: "start", for messages. */
static int create(const luio_qemu_config *config, const char *name, const char *verb,
                  luio_qemu **out, luio_error *err)
{
  char what[192];
  luio_format(what, sizeof what, "%s %s", verb, name);
  const struct luio_qemu_kind *kind = kind_of(config->machine);
  if (!kind)
    return luio_fail(err, EINVAL, "%s: luio does not know the machine %s", what, config->machine);
  luio_qemu *q = calloc(1, sizeof *q);
  int rc = q ? luio_devnull_hold(what, err) : luio_fail(err, ENOMEM, "%s: out of memory", what);
  if (rc < 0) {
    free(q);
    return rc;
  }
  q->kind = kind;
  q->config = *config;
  atomic_init(&q->users, 1);
  luio_format(q->program, sizeof q->program, "%s", name);
  q->doorbell.socket = q->memory = q->qtest = q->qmp = q->watch = q->stop_fd = q->change_fd =
      q->process.lifeline = q->process.log = -1;
  for (int i = 0; i < QEMU_LISTENERS; i++)
    q->listeners[i].fd = -1;
  for (int i = 0; i < QEMU_LINES; i++)
    q->lines[i].fd = -1;
  pthread_mutex_init(&q->bus, NULL);
  pthread_mutex_init(&q->lock, NULL);
  pthread_mutex_init(&q->doorbell.lock, NULL);
  q->fork_watch = (struct luio_fork_watch){.forked = forked, .of = q};
  luio_fork_add(&q->fork_watch);
  *out = q;
  return 0;
}

/* The end of both ways: the machine is the caller's, or ends. */
static int ready(luio_qemu *q, int rc, luio_qemu **out, luio_error *err)
{
  if (rc == 0)
    rc = luio_qemu_bus_start(q, err);
  if (rc == 0 && !q->kind->tree)
    rc = luio_qemu_enumerate(q, err);
  if (rc == 0 && !q->kind->tree && q->config.messages)
    rc = luio_doorbell_find(q, err);
  if (rc < 0) {
    luio_qemu_close(q);
    return rc;
  }
  *out = q;
  return 0;
}

/* The same for the same machine: FNV-1a of its arguments. */
static uint64_t key_of(const luio_qemu_config *c)
{
  uint64_t h = 0xcbf29ce484222325ull ^ c->memory ^ (uint64_t)c->messages << 32;
  for (size_t i = 0; c->argv[i]; i++)
    for (const char *at = c->argv[i];; at++) {
      h = (h ^ (uint8_t)*at) * 0x100000001b3ull;
      if (!*at)
        break;
    }
  return h;
}

int luio_qemu_open(const luio_qemu_config *config, luio_qemu **out, luio_error *err)
{
  char lost[sizeof err->message] = "";
  for (;;) {
    luio_qemu *q;
    luio_error why;
    struct ends e = {.qemu = {-1, -1, -1, -1, -1}, .lifeline = -1};
    int rc = create(config, config->argv[0], "start", &q, err);
    if (rc < 0)
      return rc;
    rc = luio_guard_machine(key_of(config), config->memory, &q->guard, &why);
    if (rc < 0)
      luio_fail(err, -rc, "start %s: %s", q->program, why.message);
    if (q->guard.given)
      use_guardians(q, &e);
    bool kept = q->guard.given && q->guard.pid;
    luio_format(q->lost, sizeof q->lost, "%s", lost);
    if (rc == 0)
      rc = map_chunks(q, q->guard.given ? q->guard.fd[GUARD_CHUNKS] : -1, "start", err);
    if (q->guard.given)
      close(q->guard.fd[GUARD_CHUNKS]);
    if (rc == 0)
      rc = kept ? resume(q, &why) : start(q, &e, err);
    for (int i = 0; i < QEMU_FDS; i++)
      if (e.qemu[i] >= 0)
        close(e.qemu[i]);
    if (e.lifeline >= 0)
      close(e.lifeline);
    rc = ready(q, rc, out, kept ? &why : err);
    if (rc == 0 || !kept)
      return rc;
    luio_format(lost, sizeof lost, "%s", why.message); /* it ended with q: a new one */
  }
}

int luio_qemu_is_kept(const luio_qemu *q)
{
  return q->guard.given && q->guard.pid;
}

const char *luio_qemu_lost(const luio_qemu *q)
{
  return q->lost[0] ? q->lost : NULL;
}

/* The process at the other end of a socket; 0: it is not known here. */
static int peer(int fd)
{
  struct ucred other = {.pid = 0};
  socklen_t size = sizeof other;
  return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &other, &size) == 0 ? other.pid : 0;
}

static int create_attached(const luio_qemu_running *r, luio_qemu **out, luio_error *err)
{
  /* Above 2 GiB the offset in the file may be another than the address; above 30 the window of BARs begins. */
  uint64_t usable = r->size < MOST_MEMORY ? r->size : MOST_MEMORY;
  luio_qemu_config config = {
      .machine = r->machine, .memory = usable / QEMU_CHUNK * QEMU_CHUNK, .answer_ns = r->answer_ns};
  config.start_ns = config.answer_ns;
  if (config.memory < 2 * QEMU_CHUNK || r->size > ROOM_FOR_MEMORY)
    return luio_fail(err, EINVAL,
                     "attach to %s: its memory has %llu MiB: start it with 4 MiB to 30 GiB (-m)",
                     r->name, (unsigned long long)(r->size >> 20));
  return create(&config, r->name, "attach to", out, err);
}

int luio_qemu_attach(const luio_qemu_running *r, luio_qemu **out, luio_error *err)
{
  luio_qemu *q = NULL;
  int rc = create_attached(r, &q, err);
  if (rc == 0) {
    q->qtest = r->qtest;
    q->qmp = r->qmp;
    q->process.pid = peer(r->qmp);
    rc = map_memory(q, r->memory, "attach to", err);
  } else {
    close(r->qtest);
    close(r->qmp);
    close(r->memory);
  }
  if (rc == 0)
    rc = map_chunks(q, -1, "attach to", err);
  if (rc == 0)
    rc = luio_qemu_bus_resync(q, err);
  return q ? ready(q, rc, out, err) : rc;
}

static void end(luio_qemu *q)
{
  luio_fork_remove(&q->fork_watch);
  luio_devnull_release();
  luio_qemu_bus_stop(q);
  luio_guard_machine_end(&q->guard);
  luio_qemu_end(&q->process, q->guard.given ? q->qmp : -1);
  if (q->qtest >= 0)
    close(q->qtest);
  if (q->qmp >= 0)
    close(q->qmp);
  luio_doorbell_close(&q->doorbell);
  if (q->change_fd >= 0)
    close(q->change_fd);
  if (q->ram)
    munmap(q->ram, q->config.memory);
  if (q->chunks)
    munmap(q->chunks, chunks_size(q));
  if (q->memory >= 0)
    close(q->memory);
  pthread_mutex_destroy(&q->bus);
  pthread_mutex_destroy(&q->lock);
  free(q);
}

/* The last user sees all that the others did to it. */
void luio_qemu_close(luio_qemu *q)
{
  if (q && atomic_fetch_sub(&q->users, 1) == 1)
    end(q);
}

int luio_qemu_take(luio_qemu *q, unsigned bus, unsigned devfn, struct luio_qemu_function **out)
{
  int rc = -ENODEV;
  pthread_mutex_lock(&q->lock);
  for (unsigned i = 0; i < q->n_functions && rc == -ENODEV; i++) {
    struct luio_qemu_function *f = &q->functions[i];
    if (f->bus != bus || f->devfn != devfn || !f->here)
      continue;
    rc = f->open ? -EBUSY : 0;
    f->open = true;
    *out = f;
  }
  pthread_mutex_unlock(&q->lock);
  if (rc == 0)
    atomic_fetch_add(&q->users, 1);
  return rc;
}

void luio_qemu_let_go(luio_qemu *q, struct luio_qemu_function *f)
{
  pthread_mutex_lock(&q->lock);
  f->open = false;
  pthread_mutex_unlock(&q->lock);
  luio_qemu_close(q);
}

int luio_qemu_take_node(luio_qemu *q, uint64_t addr)
{
  int rc = 0, free_place = -1;
  pthread_mutex_lock(&q->lock);
  for (int i = 0; i < QEMU_NODES && rc == 0; i++) {
    if (!q->nodes[i].open)
      free_place = i;
    else if (q->nodes[i].addr == addr)
      rc = -EBUSY;
  }
  if (rc == 0 && free_place < 0)
    rc = -ENOSPC;
  if (rc == 0) {
    q->nodes[free_place].open = true;
    q->nodes[free_place].addr = addr;
  }
  pthread_mutex_unlock(&q->lock);
  if (rc == 0)
    atomic_fetch_add(&q->users, 1);
  return rc;
}

void luio_qemu_let_node_go(luio_qemu *q, uint64_t addr)
{
  pthread_mutex_lock(&q->lock);
  for (int i = 0; i < QEMU_NODES; i++)
    if (q->nodes[i].addr == addr)
      q->nodes[i].open = false;
  pthread_mutex_unlock(&q->lock);
  luio_qemu_close(q);
}

int luio_qemu_qmp_fd(const luio_qemu *q)
{
  return q->qmp;
}

int luio_qemu_change_fd(const luio_qemu *q)
{
  return q->change_fd;
}

unsigned luio_qemu_changes(luio_qemu *q)
{
  uint64_t n;
  (void)!read(q->change_fd, &n, sizeof n); /* EAGAIN: nothing */
  return atomic_exchange(&q->changes, 0);
}

int luio_qemu_pid(const luio_qemu *q)
{
  return q->process.pid;
}

int luio_qemu_describe(luio_qemu *q, const luio_qemu_board *board, luio_error *err)
{
  char command[256];
  if (!luio_format(command, sizeof command, "irq_intercept_in %s", board->interrupts))
    return luio_fail(err, EINVAL, "%s: an interrupt controller of so long a name", q->program);
  q->board = *board;
  q->board.interrupts = NULL; /* the caller's */
  int rc = luio_qemu_ask(q, command, err);
  if (rc == 0 && board->ecam)
    rc = luio_qemu_enumerate(q, err);
  return rc == 0 && board->ecam && q->config.messages ? luio_doorbell_find(q, err) : rc;
}

const void *luio_qemu_tree(const luio_qemu *q, uint64_t *size)
{
  static const uint8_t magic[4] = {0xd0, 0x0d, 0xfe, 0xed};
  uint32_t total;
  if (!q->kind->tree || memcmp(q->ram, magic, sizeof magic) != 0)
    return NULL;
  memcpy(&total, q->ram + sizeof magic, sizeof total);
  *size = be32toh(total);
  return *size <= QEMU_CHUNK ? q->ram : NULL;
}

/* ---- Memory ------------------------------------------------------------------------------------ */

int luio_qemu_memory_take(luio_qemu *q, uint16_t owner, uint64_t size, uint64_t align,
                          uint64_t mask, uint64_t *addr)
{
  uint64_t chunks = q->config.memory / QEMU_CHUNK, n = (size + QEMU_CHUNK - 1) / QEMU_CHUNK;
  uint64_t step = align > QEMU_CHUNK ? align / QEMU_CHUNK : 1;
  int rc = -ENOMEM;
  pthread_mutex_lock(&q->lock);
  for (uint64_t first = step; rc < 0 && first + n <= chunks; first += step) {
    uint64_t last = first;
    while (last < first + n && !q->chunks[last])
      last++;
    if (last < first + n)
      continue;
    if (q->kind->ram + last * QEMU_CHUNK - 1 > mask) {
      rc = -ERANGE;
      break;
    }
    for (uint64_t i = first; i < last; i++)
      q->chunks[i] = owner;
    *addr = q->kind->ram + first * QEMU_CHUNK;
    rc = 0;
  }
  pthread_mutex_unlock(&q->lock);
  return rc;
}

void luio_qemu_memory_claim(luio_qemu *q, uint16_t owner, uint64_t addr, uint64_t size)
{
  uint64_t first = (addr - q->kind->ram) / QEMU_CHUNK;
  pthread_mutex_lock(&q->lock);
  for (uint64_t i = first; i < first + size / QEMU_CHUNK; i++)
    q->chunks[i] = owner;
  pthread_mutex_unlock(&q->lock);
}

void luio_qemu_memory_release(luio_qemu *q, uint64_t addr, uint64_t size)
{
  luio_qemu_memory_claim(q, 0, addr, size);
}

void luio_qemu_memory_forget(luio_qemu *q, uint16_t owner,
                             bool (*keep)(const void *of, uint64_t addr), const void *of)
{
  pthread_mutex_lock(&q->lock);
  for (uint64_t i = 0; i < q->config.memory / QEMU_CHUNK; i++)
    if (q->chunks[i] == owner && !keep(of, q->kind->ram + i * QEMU_CHUNK))
      q->chunks[i] = 0;
  pthread_mutex_unlock(&q->lock);
}
