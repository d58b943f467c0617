/* device.h - devices: opening, finding and closing them. */
#ifndef LUIO_DEVICE_H
#define LUIO_DEVICE_H

#include "ways.h"

/* device.c. A device with no files yet, and opening its files by address; after a failure the files
 * already opened stay in the device. */
int luio_device_new(unsigned flags, const char *what, luio_device **out, luio_error *err);
int luio_device_open_files(luio_device *d, const char *address, const luio_device *before,
                           luio_error *err);
void luio_device_free(luio_device *device);

#endif
