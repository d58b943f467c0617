/* top_half.c - the top half of an interrupt: register operations as data, because no Lua may run on
 * the interrupt thread. They are checked once, when the interrupt is opened, and irq_take.c runs them
 * for every interrupt. */
#include "registers.h"

#include <errno.h>

int luio_top_half_check(const luio_irq_config *c, const char *who, luio_error *err)
{
  if (c->n_ops > LUIO_IRQ_OPS)
    return luio_fail(err, EINVAL, "interrupt of %s: a top half has at most %d steps, not %u", who,
                     LUIO_IRQ_OPS, c->n_ops);
  for (unsigned i = 0; i < c->n_ops; i++) {
    const luio_irq_op *op = &c->ops[i];
    if (op->op == LUIO_OP_UNMASK ? !c->device : !op->region)
      return luio_fail(err, EINVAL, "interrupt of %s: step %u names no %s", who, i + 1,
                       op->op == LUIO_OP_UNMASK ? "device" : "region");
    if (op->op < LUIO_OP_READ || op->op > LUIO_OP_UNMASK || op->slot >= LUIO_IRQ_CAPTURES)
      return luio_fail(err, EINVAL,
                       "interrupt of %s: step %u is not READ, WRITE, COPY or UNMASK "
                       "with a slot of 0..%d",
                       who, i + 1, LUIO_IRQ_CAPTURES - 1);
    if (op->op == LUIO_OP_UNMASK && i + 1 < c->n_ops)
      return luio_fail(err, EINVAL, "interrupt of %s: step %u unmasks, and is not the last", who,
                       i + 1);
    if (op->op == LUIO_OP_UNMASK)
      continue;
    unsigned bytes = op->width / 8;
    uint64_t size = luio_region_size(op->region);
    if ((op->width != 8 && op->width != 16 && op->width != 32 && op->width != 64) ||
        op->offset % bytes || op->offset > size || size - op->offset < bytes)
      return luio_fail(err, EINVAL, "interrupt of %s: step %u: no %u-bit register at 0x%llx of %s",
                       who, i + 1, op->width, (unsigned long long)op->offset,
                       luio_region_name(op->region));
    if (op->op != LUIO_OP_READ && !luio_region_writable(op->region))
      return luio_fail(err, EACCES, "interrupt of %s: step %u writes, but %s was opened read-only",
                       who, i + 1, luio_region_name(op->region));
  }
  return 0;
}

static int run_op(const luio_irq_op *op, luio_irq_event *event, luio_error *err)
{
  switch (op->op) {
  case LUIO_OP_READ:
    return luio_region_read(op->region, op->offset, op->width, &event->value[op->slot], err);
  case LUIO_OP_WRITE: return luio_region_write(op->region, op->offset, op->width, op->value, err);
  case LUIO_OP_COPY:
    return luio_region_write(op->region, op->offset, op->width,
                             (event->value[op->slot] & op->mask) | op->value, err);
  default: return 0; /* UNMASK: irq_take.c's */
  }
}

int luio_top_half_run(const luio_irq_config *c, luio_irq_event *event, luio_error *err)
{
  int rc = 0;
  for (unsigned i = 0; i < c->n_ops && rc == 0; i++)
    rc = run_op(&c->ops[i], event, err);
  return rc;
}
