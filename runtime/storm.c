/* storm.c - interrupt storms: a source fires again as soon as it is unmasked, because the acknowledgement does not
 * clear its line. The interrupt thread and Lua are then busy without progress.
 *
 * A high rate is no storm, because a device may be fast. The sign is the line at the moment of unmasking, after the
 * acknowledgement. If INTx is masked by the command register (uio_pci_generic, simulated devices), the adjacent status
 * register shows the line, and the load that unmasking needs anyway reads both. An acknowledged device holds its line
 * only if the next cause came within that microsecond. So a storm is RUN interrupts in a row, over PATIENCE_NS, with
 * the line still held after each and the same captured values each time (only those that the acknowledgement writes, if
 * it writes any), because a device that makes progress has other values. One unmasking that finds the line low ends the
 * storm.
 *
 * Such a source is throttled: it stays masked for PAUSE_NS after each interrupt. A held level is not lost while it is
 * masked. Other causes of the device are not lost either: they come with the next interrupt, at most PAUSE_NS late.
 *
 * Other UIO drivers unmask by irqcontrol, and do not report the line. There luio only reports a suspicion, and does not
 * throttle, because a pause would lose edges. The suspicion: three of four interrupts or more came sooner after the
 * unmasking than NEAR times the duration of the previous top half. A source whose top half does not unmask is not
 * judged, because the time until Lua unmasks is not related to the device. */
#include "registers.h"

#include <string.h>

#define RUN 64
#define PATIENCE_NS 250000000ULL
#define PAUSE_NS 5000000ULL
#define NEAR 4
#define FAR_COSTS 3 /* near ones to make good for a far one */

static bool same_values(const luio_irq_config *c, const uint64_t *a, const uint64_t *b)
{
  bool copies = false;
  for (unsigned i = 0; i < c->n_ops; i++)
    copies = copies || c->ops[i].op == LUIO_OP_COPY;
  for (unsigned i = 0; i < c->n_ops; i++) {
    const luio_irq_op *op = &c->ops[i];
    if (op->op == (copies ? LUIO_OP_COPY : LUIO_OP_READ) && a[op->slot] != b[op->slot])
      return false;
  }
  return true;
}

static void begin_run(struct luio_storm *s, uint64_t now)
{
  s->run = 0;
  s->interrupts = 0;
  s->since_ns = now;
}

/* Whether it came right after the one before it was let through. */
static bool is_near(const struct luio_storm *s, const luio_irq_event *event)
{
  return s->done_ns && event->time_ns - s->done_ns <= NEAR * (s->done_ns - s->taken_ns);
}

static void count(struct luio_storm *s, const luio_irq_event *event, enum luio_line line)
{
  bool held = line == LUIO_LINE_HELD || (line == LUIO_LINE_UNSEEN && is_near(s, event));
  s->interrupts += event->count;
  if (held && s->run < 2 * RUN)
    s->run++;
  else if (line == LUIO_LINE_UNSEEN && !held)
    s->run -= s->run < FAR_COSTS ? s->run : FAR_COSTS;
  else if (!held)
    s->run = 0;
  if (s->run == 0)
    begin_run(s, event->time_ns);
}

bool luio_storm_judge(struct luio_storm *s, const luio_irq_config *c, const luio_irq_event *event,
                      enum luio_line line)
{
  uint64_t now = luio_now();
  bool was = luio_storm_rages(s);
  if (!was && !same_values(c, s->value, event->value))
    begin_run(s, event->time_ns);
  memcpy(s->value, event->value, sizeof s->value);
  count(s, event, line);
  s->taken_ns = event->time_ns;
  s->done_ns = now;
  if (was) {
    s->record.interrupts += event->count;
    return s->run == 0 && luio_storm_end(s);
  }
  if (s->run < RUN || now - s->since_ns < PATIENCE_NS)
    return false;
  s->record = (luio_irq_storm){
      .number = s->record.number + 1,
      .begun_ns = s->since_ns,
      .interrupts = s->interrupts,
      .rate = s->interrupts * LUIO_NS_PER_S / (now - s->since_ns),
      .epoch = event->epoch,
      .seen = line == LUIO_LINE_HELD,
      .pause_ns = line == LUIO_LINE_HELD && !c->unpaced ? PAUSE_NS : 0,
  };
  memcpy(s->record.value, event->value, sizeof s->record.value);
  return true;
}

bool luio_storm_rages(const struct luio_storm *s)
{
  return s->record.number && !s->record.ended_ns;
}

bool luio_storm_end(struct luio_storm *s)
{
  bool raged = luio_storm_rages(s);
  if (raged)
    s->record.ended_ns = luio_now();
  begin_run(s, 0);
  s->done_ns = 0;
  return raged;
}
