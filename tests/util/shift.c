/* Shifts the clocks of a server: preloaded, it adds what the file that SEATS_CLOCK names says to the wall clock and
 * to the time since the machine's start, in microseconds. The monotonic clock stands still while a machine is
 * suspended, and is left alone. Built by tests/util/machine.rs. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct shift {
	volatile long long wall;
	volatile long long since_start;
};

static struct shift none;
static struct shift *shift = &none;

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("SEATS_CLOCK");
	int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	void *mapped = file < 0 ? MAP_FAILED : mmap(NULL, sizeof none, PROT_READ, MAP_SHARED, file, 0);

	if (file >= 0)
		close(file);
	if (mapped != MAP_FAILED)
		shift = mapped;
}

static void add(struct timespec *time, long long microseconds)
{
	long long nanoseconds = time->tv_nsec + microseconds % 1000000 * 1000;

	time->tv_sec += microseconds / 1000000;
	if (nanoseconds < 0) {
		nanoseconds += 1000000000;
		time->tv_sec--;
	} else if (nanoseconds >= 1000000000) {
		nanoseconds -= 1000000000;
		time->tv_sec++;
	}
	time->tv_nsec = nanoseconds;
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
	int failed = syscall(SYS_clock_gettime, clock, time);

	if (!failed && clock == CLOCK_REALTIME)
		add(time, shift->wall);
	if (!failed && clock == CLOCK_BOOTTIME)
		add(time, shift->since_start);
	return failed;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone)
{
	struct timespec now;
	int failed = clock_gettime(CLOCK_REALTIME, &now);

	(void) zone;
	time->tv_sec = now.tv_sec;
	time->tv_usec = now.tv_nsec / 1000;
	return failed;
}
