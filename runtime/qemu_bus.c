/* qemu_bus.c - accesses of a QEMU machine's registers, by its test socket.
 *
 * The protocol is lines: "readl 0xc0000000" is answered by "OK 0x...", and "IRQ raise 20" may come between answers. Each
 * command is exactly one access of its width (system/qtest.c). The thread that makes an access sends the command and
 * reads the answer itself, because each hand-over to another thread costs more than the access. While none is under
 * way a thread of the machine's reads, for interrupts; epoll is told not to wake it meanwhile.
 *
 * The kernel's part is here, too: when a line rises, each device that waits for interrupts is asked (its status
 * register), as uio_pci_generic does. A device that holds its line is masked by INTX_DISABLE, and the event is counted. A
 * line that two devices share rises once for both, so the devices are asked until none holds its line.
 *
 * Lock: `bus`, from sending a command to the end of its answer. */
#include "kernel.h"
#include "qemu.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define BATCH 64 /* accesses in one message */

void luio_qemu_tell(luio_qemu *q, unsigned change)
{
  uint64_t one = 1;
  atomic_fetch_or(&q->changes, change);
  (void)!write(q->change_fd, &one, sizeof one); /* EAGAIN: it is readable already */
}

/* From now on every access fails with this. */
static int fail(luio_qemu *q, int code, const char *what)
{
  char printed[512];
  if (!q->failure.code) {
    luio_qemu_printed(&q->process, printed, sizeof printed);
    luio_fail(&q->failure, code, "%s: %s%s%s", q->program, what, *printed ? ": " : "", printed);
    luio_qemu_tell(q, LUIO_QEMU_ENDED);
  }
  return -q->failure.code;
}

static int send_all(luio_qemu *q, const char *text, size_t size)
{
  while (size) {
    ssize_t n = send(q->qtest, text, size, MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return fail(q, EIO, "it has ended");
    text += n;
    size -= (size_t)n;
  }
  return 0;
}

/* Reads what has come, waiting until `deadline` for something; 0: nothing came. */
static int fill(luio_qemu *q, uint64_t deadline)
{
  for (;;) {
    if (q->have == sizeof q->in)
      return fail(q, EPROTO, "its test socket sent a line that does not end");
    ssize_t n = recv(q->qtest, q->in + q->have, sizeof q->in - q->have, MSG_DONTWAIT);
    if (n > 0) {
      q->have += (size_t)n;
      return 1;
    }
    if (n == 0 || (errno != EAGAIN && errno != EINTR))
      return fail(q, EIO, "it has ended");
    uint64_t now = luio_now();
    if (now >= deadline)
      return 0;
    struct pollfd in = {.fd = q->qtest, .events = POLLIN};
    poll(&in, 1, (int)((deadline - now) / 1000000 + 1));
  }
}

/* The next line, without its end: 1, *size bytes at q->in, until `drop`; 0: none is complete. */
static int next_line(luio_qemu *q, size_t *size)
{
  char *end = memchr(q->in, '\n', q->have);
  *size = end ? (size_t)(end - q->in) : 0;
  return end != NULL;
}

static void drop_line(luio_qemu *q, size_t size)
{
  q->have -= size + 1;
  memmove(q->in, q->in + size + 1, q->have);
}

/* A line that is no answer to what was asked. */
static int nonsense(luio_qemu *q, size_t size)
{
  char line[128], what[256];
  size_t kept = size < sizeof line - 1 ? size : sizeof line - 1;
  for (size_t i = 0; i < kept; i++)
    line[i] = q->in[i] ? q->in[i] : '?'; /* it ends no text here */
  line[kept] = 0;
  luio_clean(line);
  luio_format(what, sizeof what, "its test socket said \"%s\"%s: is that QEMU?", line,
              size > kept ? "..." : "");
  return fail(q, EPROTO, what);
}

/* Whether a line tells of an interrupt line. */
static bool is_irq(luio_qemu *q, struct luio_qemu_line_text said)
{
  if (said.kind != QEMU_RISEN && said.kind != QEMU_FALLEN)
    return false;
  q->raised |= said.kind == QEMU_RISEN;
  luio_qemu_line_moved(q, (unsigned)said.value, said.kind == QEMU_RISEN);
  return true;
}

/* The answer to a command: a value of so many bits, or, where `value` is NULL, none. width 0: either, and it is dropped. */
static int answer(luio_qemu *q, unsigned width, uint64_t *value)
{
  size_t size;
  uint64_t deadline = luio_now() + q->config.answer_ns;
  for (;;) {
    while (!next_line(q, &size)) {
      int rc = fill(q, deadline);
      if (rc < 0)
        return rc;
      if (rc == 0)
        return fail(q, ETIMEDOUT,
                    "it does not answer: is it stopped? Close its devices and open them anew");
    }
    struct luio_qemu_line_text said = luio_qemu_parse(q->in, size);
    bool irq = is_irq(q, said);
    if (!irq &&
        (said.kind == QEMU_NONSENSE || (width && said.kind != (value ? QEMU_VALUE : QEMU_DONE)) ||
         (value && width < 64 && said.value >> width)))
      return nonsense(q, size);
    drop_line(q, size);
    if (!irq) {
      if (value)
        *value = said.value;
      return 0;
    }
    if (luio_now() > deadline)
      return fail(q, ETIMEDOUT, "it tells of interrupt lines without an end, and does not answer");
  }
}

static uint64_t element(const void *at, unsigned width, uint64_t i)
{
  switch (width) {
  case 8: return ((const uint8_t *)at)[i];
  case 16: return ((const uint16_t *)at)[i];
  case 32: return ((const uint32_t *)at)[i];
  default: return ((const uint64_t *)at)[i];
  }
}

static void put_element(void *at, unsigned width, uint64_t i, uint64_t value)
{
  switch (width) {
  case 8: ((uint8_t *)at)[i] = (uint8_t)value; break;
  case 16: ((uint16_t *)at)[i] = (uint16_t)value; break;
  case 32: ((uint32_t *)at)[i] = (uint32_t)value; break;
  default: ((uint64_t *)at)[i] = value; break;
  }
}

/* With the lock held. Commands go out in batches, so QEMU works while the answers travel. */
int luio_qemu_transfer(luio_qemu *q, enum luio_qemu_space space, uint64_t addr, unsigned width,
                       void *to, const void *from, uint64_t n)
{
  if (space == QEMU_PORTS && q->board.ports) {
    space = QEMU_MEMORY;
    addr += q->board.ports;
  }
  char letter = width == 8 ? 'b' : width == 16 ? 'w' : width == 32 ? 'l' : 'q';
  const char *verb = space == QEMU_PORTS ? (to ? "in" : "out") : (to ? "read" : "write");
  char text[BATCH * 56];
  if (q->failure.code)
    return -q->failure.code;
  for (uint64_t done = 0; done < n;) {
    uint64_t count = n - done < BATCH ? n - done : BATCH, value;
    size_t size = 0;
    for (uint64_t i = 0; i < count; i++)
      size += (size_t)(to ? snprintf(text + size, sizeof text - size, "%s%c 0x%" PRIx64 "\n", verb,
                                     letter, addr)
                          : snprintf(text + size, sizeof text - size,
                                     "%s%c 0x%" PRIx64 " 0x%" PRIx64 "\n", verb, letter, addr,
                                     element(from, width, done + i)));
    int rc = send_all(q, text, size);
    for (uint64_t i = 0; rc == 0 && i < count; i++) {
      rc = answer(q, width, to ? &value : NULL);
      if (rc == 0 && to)
        put_element(to, width, done + i, value);
    }
    if (rc < 0)
      return rc;
    done += count;
  }
  return 0;
}

/* ---- Interrupts -------------------------------------------------------------------------------- */

/* Whether the device holds its line; it is masked then. */
static bool take_interrupt(luio_qemu *q, const struct luio_qemu_listener *l)
{
  uint32_t command = 0;
  uint64_t one = 1;
  if (luio_qemu_transfer(q, QEMU_MEMORY, l->ecam + PCI_COMMAND, 32, &command, NULL, 1) < 0 ||
      !(command & (uint32_t)PCI_STATUS_INTERRUPT << 16) || command & PCI_COMMAND_INTX_DISABLE)
    return false;
  uint16_t masked = (uint16_t)(command | PCI_COMMAND_INTX_DISABLE);
  if (luio_qemu_transfer(q, QEMU_MEMORY, l->ecam + PCI_COMMAND, 16, NULL, &masked, 1) < 0)
    return false;
  return write(l->fd, &one, sizeof one) == sizeof one;
}

/* Lines that came after the last answer. They may be here already, so nothing on the socket would tell of them. */
static void take_lines(luio_qemu *q)
{
  size_t size;
  while (!q->failure.code && next_line(q, &size))
    if (is_irq(q, luio_qemu_parse(q->in, size)))
      drop_line(q, size);
    else
      nonsense(q, size);
}

/* With the lock held, and no command under way. */
static void serve(luio_qemu *q)
{
  take_lines(q);
  for (int round = 0; q->raised && !q->failure.code && round <= QEMU_LISTENERS; round++) {
    q->raised = false;
    if (q->look && q->look(q))
      q->raised = true;
    for (int i = 0; i < QEMU_LISTENERS; i++)
      if (q->listeners[i].fd >= 0 && take_interrupt(q, &q->listeners[i]))
        q->raised = true; /* ask again: another may have joined it on the line */
    take_lines(q);
  }
}

/* A socket whose other end is closed is ready for ever, so it leaves the set. */
static void watch(luio_qemu *q, bool on)
{
  struct epoll_event event = {.events = on ? EPOLLIN : 0, .data.fd = q->qtest};
  if (q->has_thread)
    epoll_ctl(q->watch, q->failure.code ? EPOLL_CTL_DEL : EPOLL_CTL_MOD, q->qtest, &event);
}

void luio_qemu_bus_begin(luio_qemu *q)
{
  pthread_mutex_lock(&q->bus);
  watch(q, false);
}

void luio_qemu_bus_end(luio_qemu *q)
{
  serve(q);
  watch(q, true);
  pthread_mutex_unlock(&q->bus);
}

static void *run(void *of)
{
  luio_qemu *q = of;
  for (;;) {
    struct epoll_event event;
    int n = epoll_wait(q->watch, &event, 1, -1);
    if (n == 1 && event.data.fd == q->stop_fd)
      return NULL;
    if (n != 1)
      continue;
    luio_qemu_bus_begin(q);
    if (!q->failure.code)
      fill(q, 0);
    luio_qemu_bus_end(q);
  }
}

int luio_qemu_listen(luio_qemu *q, uint64_t ecam, int fd, luio_error *err)
{
  int rc = -ENOSPC;
  luio_qemu_bus_begin(q);
  for (int i = 0; i < QEMU_LISTENERS && rc < 0; i++)
    if (q->listeners[i].fd < 0) {
      q->listeners[i] = (struct luio_qemu_listener){.ecam = ecam, .fd = fd};
      q->raised = true; /* it may hold its line already */
      rc = 0;
    }
  luio_qemu_bus_end(q);
  return rc == 0
             ? 0
             : luio_fail(err, ENOSPC, "a QEMU machine has at most %d open devices", QEMU_LISTENERS);
}

void luio_qemu_leave(luio_qemu *q, int fd)
{
  pthread_mutex_lock(&q->bus);
  for (int i = 0; i < QEMU_LISTENERS; i++)
    if (q->listeners[i].fd == fd)
      q->listeners[i].fd = -1;
  pthread_mutex_unlock(&q->bus);
}

/* ---- The public side --------------------------------------------------------------------------- */

static int done(luio_qemu *q, int rc, luio_error *err)
{
  if (rc < 0 && err)
    *err = q->failure;
  luio_qemu_bus_end(q);
  return rc;
}

int luio_qemu_read(luio_qemu *q, enum luio_qemu_space space, uint64_t addr, unsigned width,
                   void *to, uint64_t n, luio_error *err)
{
  luio_qemu_bus_begin(q);
  return done(q, luio_qemu_transfer(q, space, addr, width, to, NULL, n), err);
}

int luio_qemu_write(luio_qemu *q, enum luio_qemu_space space, uint64_t addr, unsigned width,
                    const void *from, uint64_t n, luio_error *err)
{
  luio_qemu_bus_begin(q);
  return done(q, luio_qemu_transfer(q, space, addr, width, NULL, from, n), err);
}

int luio_qemu_check(luio_qemu *q, luio_error *err)
{
  luio_qemu_bus_begin(q);
  return done(q, -q->failure.code, err);
}

int luio_qemu_ask(luio_qemu *q, const char *command, luio_error *err)
{
  char text[320];
  luio_format(text, sizeof text, "%s\n", command);
  luio_qemu_bus_begin(q);
  int rc = q->failure.code ? -q->failure.code : send_all(q, text, strlen(text));
  return done(q, rc < 0 ? rc : answer(q, 0, NULL), err);
}

/* The error of a start. A QEMU that has ended said why. */
static int refused(luio_qemu *q, int code, luio_error *err)
{
  char printed[512];
  luio_qemu_printed(&q->process, printed, sizeof printed);
  if (code == ETIMEDOUT)
    return luio_fail(err, ETIMEDOUT, "start %s: it did not answer within %g s: is it stopped?%s%s",
                     q->program, (double)q->config.start_ns / LUIO_NS_PER_S,
                     *printed ? " It printed: " : "", printed);
  if (code == EPROTO)
    return luio_fail(err, EPROTO, "start %s", q->failure.message);
  if (!strcmp(printed, QEMU_MISSING))
    return luio_fail(err, ENOENT, "start %s: " QEMU_MISSING ": apt install %s", q->program,
                     q->kind->package);
  if (!*printed)
    return luio_fail(err, EIO,
                     "start %s: it ended before it answered, and printed nothing: was it killed?",
                     q->program);
  return luio_fail(err, EINVAL, "start %s: %s", q->program, printed);
}

/* A line of a dead process may wait for its end in QEMU, which then executes it; and answers to that process may be on their way. QEMU
 * repeats a command that it does not know, so a command that nobody has used before gives the first answer that is ours. The
 * line before it ends what the dead process has begun; its space makes it a command of its own otherwise. */
int luio_qemu_bus_resync(luio_qemu *q, luio_error *err)
{
  char mark[64], text[80];
  size_t size;
  bool found = false;
  uint64_t now = luio_now(), deadline = now + q->config.answer_ns;
  luio_format(mark, sizeof mark, "luio-%d-%llx", (int)getpid(), (unsigned long long)now);
  luio_format(text, sizeof text, " \n%s\n", mark);
  int rc = send_all(q, text, strlen(text));
  while (rc == 0 && !found)
    if (next_line(q, &size)) {
      found = memmem(q->in, size, mark, strlen(mark)) != NULL;
      drop_line(q, size);
    } else {
      int came = luio_now() > deadline ? 0 : fill(q, deadline);
      rc = came > 0   ? 0
           : came < 0 ? came
                      : fail(q, ETIMEDOUT, "its test socket does not answer: is it stopped?");
    }
  if (rc < 0 && err)
    *err = q->failure;
  return rc;
}

int luio_qmp_resync(int qmp, uint64_t wait_ns, const char *program, luio_error *err)
{
  char mark[64], text[160], line[512];
  uint64_t now = luio_now(), deadline = now + wait_ns;
  luio_format(mark, sizeof mark, "luio-%d-%llx", (int)getpid(), (unsigned long long)now);
  /* In this order: QMP takes no other command before the first. */
  luio_format(text, sizeof text, "{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"%s\"}\n",
              mark);
  if (send(qmp, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)strlen(text))
    return luio_fail(err, EIO, "%s: it has ended, or reads nothing at its monitor", program);
  for (size_t at = 0;;) {
    char byte;
    ssize_t n = recv(qmp, &byte, 1, MSG_DONTWAIT);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
      return luio_fail(err, EIO, "%s: it has ended", program);
    if (n == 1 && byte == '\n') {
      line[at] = 0;
      if (strstr(line, mark))
        return 0;
      at = 0;
    } else if (n == 1 && at < sizeof line - 1)
      line[at++] = byte;
    now = luio_now();
    if (now >= deadline)
      return luio_fail(err, ETIMEDOUT, "%s: its monitor does not answer: is it stopped?", program);
    struct pollfd in = {.fd = qmp, .events = POLLIN};
    if (n < 0)
      poll(&in, 1, (int)((deadline - now) / 1000000 + 1));
  }
}

int luio_qemu_bus_start(luio_qemu *q, luio_error *err)
{
  uint64_t patience = q->config.answer_ns;
  q->config.answer_ns = q->config.start_ns;
  int rc = luio_qemu_ask(q, q->kind->hello, NULL);
  q->config.answer_ns = patience;
  if (rc < 0)
    return refused(q, -rc, err);
  q->watch = epoll_create1(EPOLL_CLOEXEC);
  q->stop_fd = eventfd(0, EFD_CLOEXEC);
  q->change_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  struct epoll_event line = {.events = EPOLLIN, .data.fd = q->qtest},
                     stop = {.events = EPOLLIN, .data.fd = q->stop_fd};
  if (q->watch < 0 || q->stop_fd < 0 || q->change_fd < 0 ||
      epoll_ctl(q->watch, EPOLL_CTL_ADD, q->qtest, &line) < 0 ||
      epoll_ctl(q->watch, EPOLL_CTL_ADD, q->stop_fd, &stop) < 0)
    return luio_fail(err, errno, "start %s: %s%s", q->program, luio_errno_name(errno),
                     luio_qemu_remedy(errno));
  pthread_mutex_lock(&q->bus); /* the thread reads has_thread */
  int code = pthread_create(&q->thread, NULL, run, q);
  q->has_thread = !code;
  pthread_mutex_unlock(&q->bus);
  return code ? luio_fail(err, code, "start %s: a thread for its interrupts: %s%s", q->program,
                          luio_errno_name(code), luio_qemu_remedy(code))
              : 0;
}

void luio_qemu_bus_forked(luio_qemu *q)
{
  luio_devnull_replace(q->qtest);
  luio_devnull_replace(q->watch);
  luio_devnull_replace(q->change_fd);
  luio_devnull_replace(q->stop_fd); /* the parent's thread would read what is written there */
  q->has_thread = false;
  q->failure = (luio_error){.code = ENODEV, .message = "its QEMU is the parent process's"};
  pthread_mutex_init(&q->bus, NULL);
}

void luio_qemu_bus_stop(luio_qemu *q)
{
  uint64_t one = 1;
  if (q->has_thread && write(q->stop_fd, &one, sizeof one) == sizeof one)
    pthread_join(q->thread, NULL);
  q->has_thread = false;
  if (q->watch >= 0)
    close(q->watch);
  if (q->stop_fd >= 0)
    close(q->stop_fd);
}
