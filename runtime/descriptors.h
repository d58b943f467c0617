/* descriptors.h - checks that free descriptors are left (descriptors.c). */
#ifndef LUIO_DESCRIPTORS_H
#define LUIO_DESCRIPTORS_H

/* Whether n more (64 at most) can be opened now, by opening them: 0, -EMFILE (this process has its
 * limit), -ENFILE (the system has), or why else not. Any thread; others may be quicker. */
int luio_room(unsigned n);

#endif
