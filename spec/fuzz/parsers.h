/* Comes before each of the parsers that spec/fuzz/parsers.c drives: their input is in memory there. */
#pragma once

#include <dirent.h>
#include <fcntl.h>
#include <libudev.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int fuzz_open(const char *path, int flags);
ssize_t fuzz_read(int fd, void *to, size_t size);
ssize_t fuzz_pread(int fd, void *to, size_t size, off_t at);
int fuzz_close(int fd);
FILE *fuzz_fopen(const char *path, const char *mode);
DIR *fuzz_opendir(const char *path);
struct dirent *fuzz_readdir(DIR *dir);
int fuzz_closedir(DIR *dir);
int fuzz_access(const char *path, int mode);
ssize_t fuzz_readlink(const char *path, char *to, size_t size);
char *fuzz_realpath(const char *path, char *to);
const char *fuzz_sysattr(struct udev_device *dev, const char *attr);
const char *fuzz_property(struct udev_device *dev, const char *name);
const char *fuzz_syspath(struct udev_device *dev);
const char *fuzz_name(struct udev_device *dev, const char *what);
struct udev_device *fuzz_parent(struct udev_device *dev);

#ifndef PARSERS_C
#define open(path, flags) fuzz_open(path, flags)
#define read(fd, to, size) fuzz_read(fd, to, size)
#define pread(fd, to, size, at) fuzz_pread(fd, to, size, at)
#define close(fd) fuzz_close(fd)
#define fopen(path, mode) fuzz_fopen(path, mode)
#define opendir(path) fuzz_opendir(path)
#define readdir(dir) fuzz_readdir(dir)
#define closedir(dir) fuzz_closedir(dir)
#define access(path, mode) fuzz_access(path, mode)
#define readlink(path, to, size) fuzz_readlink(path, to, size)
#define realpath(path, to) fuzz_realpath(path, to)
#define udev_device_get_sysattr_value(dev, attr) fuzz_sysattr(dev, attr)
#define udev_device_get_property_value(dev, name) fuzz_property(dev, name)
#define udev_device_get_syspath(dev) fuzz_syspath(dev)
#define udev_device_get_sysname(dev) fuzz_name(dev, "sysname")
#define udev_device_get_subsystem(dev) fuzz_name(dev, "subsystem")
#define udev_device_get_driver(dev) fuzz_name(dev, "driver")
#define udev_device_get_parent(dev) fuzz_parent(dev)
#endif
