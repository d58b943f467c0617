/* afpacket.c - the kernel's side of the round trip: frames through AF_PACKET sockets.
 *
 *   afpacket echo IF             sends every frame of our type back, addresses exchanged, until killed
 *   afpacket ping IF MAC COUNT   sends frames one by one, prints what each took until it was back, in ns
 *
 * Both block in recv(), as a program does that has something else to do while nothing comes. Frames have an EtherType
 * of their own (0x88b5, for local experiments), so the kernel's stack leaves them alone. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define TYPE 0x88b5
#define LOST_MS 1000 /* a frame that is not back by then is lost */

static int fail(const char *what)
{
  fprintf(stderr, "afpacket: %s: %s\n", what, strerror(errno));
  return 1;
}

static uint64_t now(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static int open_on(const char *name, unsigned char *mac)
{
  int fd = socket(AF_PACKET, SOCK_RAW, htons(TYPE));
  struct ifreq request = {0};
  snprintf(request.ifr_name, sizeof request.ifr_name, "%s", name);
  struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = htons(TYPE)};
  if (fd < 0 || ioctl(fd, SIOCGIFHWADDR, &request) < 0)
    return -1;
  memcpy(mac, request.ifr_hwaddr.sa_data, ETH_ALEN);
  if (ioctl(fd, SIOCGIFINDEX, &request) < 0)
    return -1;
  at.sll_ifindex = request.ifr_ifindex;
  return bind(fd, (struct sockaddr *)&at, sizeof at) < 0 ? -1 : fd;
}

static int echo(int fd, const unsigned char *mac)
{
  unsigned char frame[2048];
  for (;;) {
    ssize_t n = recv(fd, frame, sizeof frame, 0);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return fail("recv");
    if (memcmp(frame, mac, ETH_ALEN))
      continue;
    memcpy(frame, frame + ETH_ALEN, ETH_ALEN);
    memcpy(frame + ETH_ALEN, mac, ETH_ALEN);
    if (send(fd, frame, (size_t)n, 0) < 0)
      return fail("send");
  }
}

static int ping(int fd, const unsigned char *mac, const char *to, long count)
{
  unsigned char frame[60] = {0}, answer[2048];
  if (sscanf(to, "%hhx:%hhx:%hhx:%hhx:%hhx:%hhx", &frame[0], &frame[1], &frame[2], &frame[3],
             &frame[4], &frame[5]) != 6)
    return errno = EINVAL, fail(to);
  memcpy(frame + ETH_ALEN, mac, ETH_ALEN);
  frame[12] = TYPE >> 8;
  frame[13] = TYPE & 0xff;
  for (uint32_t i = 0; i < (uint32_t)count; i++) {
    memcpy(frame + 14, &i, sizeof i);
    uint64_t from = now();
    if (send(fd, frame, sizeof frame, 0) < 0)
      return fail("send");
    for (;;) {
      struct pollfd one = {.fd = fd, .events = POLLIN};
      int ready = poll(&one, 1, LOST_MS);
      if (ready == 0) {
        puts("lost");
        break;
      }
      ssize_t n = recv(fd, answer, sizeof answer, 0);
      if (n >= 18 && !memcmp(answer, mac, ETH_ALEN) && !memcmp(answer + 14, &i, sizeof i)) {
        printf("%llu\n", (unsigned long long)(now() - from));
        break;
      }
    }
  }
  return 0;
}

int main(int argc, char **argv)
{
  unsigned char mac[ETH_ALEN];
  if (argc < 3 || (strcmp(argv[1], "echo") && argc < 5)) {
    fputs("usage: afpacket echo IF | afpacket ping IF MAC COUNT\n", stderr);
    return 2;
  }
  int fd = open_on(argv[2], mac);
  if (fd < 0)
    return fail(argv[2]);
  return strcmp(argv[1], "echo") ? ping(fd, mac, argv[3], atol(argv[4])) : echo(fd, mac);
}
