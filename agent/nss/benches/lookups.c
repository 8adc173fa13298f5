/* Nanoseconds per lookup of one NSS module, called directly as glibc would after its own nsswitch work.
 *
 *   lookups MODULE SERVICE USERS HOT       medians over random users among HOT of USERS
 *   lookups MODULE SERVICE USERS HOT warm  asks for everything once and measures nothing
 *   lookups MODULE SERVICE USERS cold      microseconds from dlopen to the first answer, this process
 *   lookups MODULE SERVICE USERS spread S  latency distribution over S seconds, one thread
 *
 * MODULE "libc" is glibc's own files service; "limit" a bare hashed table in memory: what is possible.
 * The people are those of examples/generate.rs. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <grp.h>
#include <nss.h>
#include <pthread.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define FIRST_UID 1000000
#define BATCHES 301
#define PIECES 20000

typedef enum nss_status (*by_name)(const char *, void *, char *, size_t, int *);
typedef enum nss_status (*by_id)(unsigned, void *, char *, size_t, int *);
typedef enum nss_status (*groups_of)(const char *, gid_t, long *, long *, gid_t **, long, int *);

static by_name pwnam, grnam;
static by_id pwuid;
static groups_of initgroups_dyn;
static long users, hot;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

/* The hot users lie anywhere among all; names are made before the clock runs. */
static char (*names)[16], (*absent)[16], (*teams)[16];
static unsigned *ids;

static uint64_t state = 88172645463325252ull;

static uint64_t any(void) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return state;
}

static void make_names(void) {
    names = calloc(hot, 16), absent = calloc(hot, 16), teams = calloc(hot, 16), ids = calloc(hot, sizeof *ids);
    for (long n = 0; n < hot; n++) {
        unsigned user = hot == users ? (uint64_t)n : any() % users;
        snprintf(names[n], 16, "user%07u", user % 10000000);
        snprintf(absent[n], 16, "none%07u", user % 10000000);
        snprintf(teams[n], 16, "team%06u", user / 10 % 1000000);
        ids[n] = FIRST_UID + user;
    }
}

/* --- the limit: one mmap-like arena, open addressing, nothing checked ------------------------------ */

struct entry {
    uint32_t uid, gid, text, gids, nmem;
};
static struct table {
    uint32_t *slots, mask;
} by_user, by_uid, by_group;
static struct entry *entries;
static char *arena;

static uint32_t hash_text(const char *s) {
    uint64_t h = 14695981039346656037ull;
    while (*s)
        h = (h ^ (unsigned char)*s++) * 1099511628211ull;
    return h * 0x9e3779b97f4a7c15ull >> 32;
}

static uint32_t hash_id(uint32_t id) {
    return id * 2654435769u >> 3;
}

static void put(struct table *t, uint32_t hash, uint32_t number) {
    while (t->slots[hash & t->mask])
        hash++;
    t->slots[hash & t->mask] = number + 1;
}

static void make(struct table *t, long count) {
    uint32_t size = 1;
    while (size < 2 * count)
        size *= 2;
    t->slots = calloc(size, 4), t->mask = size - 1;
}

static void make_limit(void) {
    long count = users + users / 10;
    entries = calloc(count, sizeof *entries), arena = malloc(count * 128);
    make(&by_user, users), make(&by_uid, users), make(&by_group, users / 10 + 1);
    uint32_t at = 0;
    for (long n = 0; n < count; n++) {
        struct entry *e = &entries[n];
        e->text = at;
        if (n < users) {
            e->uid = e->gid = FIRST_UID + n, e->gids = 1;
            at += 1 + sprintf(arena + at, "user%07ld%cx%cPerson Number %ld%c/home/user%07ld%c/bin/bash", n, 0, 0, n, 0, n, 0);
            put(&by_user, hash_text(arena + e->text), n), put(&by_uid, hash_id(e->uid), n);
        } else {
            e->nmem = 8;
            at += 1 + sprintf(arena + at, "team%06ld%cx", n - users, 0);
            for (int m = 0; m < 8; m++)
                at += 1 + sprintf(arena + at, "user%07ld", (n * 10 + m) % users);
            put(&by_group, hash_text(arena + e->text), n);
        }
    }
}

static struct entry *find_text(struct table *t, const char *name) {
    for (uint32_t h = hash_text(name);; h++) {
        uint32_t number = t->slots[h & t->mask];
        if (!number)
            return NULL;
        if (!strcmp(arena + entries[number - 1].text, name))
            return &entries[number - 1];
    }
}

static enum nss_status give(struct entry *e, struct passwd *out, char *buffer) {
    if (!e)
        return NSS_STATUS_NOTFOUND;
    char *p = buffer;
    memcpy(buffer, arena + e->text, 96);
    out->pw_name = p, p += strlen(p) + 1, out->pw_passwd = p, p += 2;
    out->pw_gecos = p, p += strlen(p) + 1, out->pw_dir = p, p += strlen(p) + 1, out->pw_shell = p;
    out->pw_uid = e->uid, out->pw_gid = e->gid;
    return NSS_STATUS_SUCCESS;
}

static enum nss_status limit_pwnam(const char *name, void *out, char *buffer, size_t len, int *error) {
    (void)len, (void)error;
    return give(find_text(&by_user, name), out, buffer);
}

static enum nss_status limit_pwuid(unsigned id, void *out, char *buffer, size_t len, int *error) {
    (void)len, (void)error;
    for (uint32_t h = hash_id(id);; h++) {
        uint32_t number = by_uid.slots[h & by_uid.mask];
        if (!number || entries[number - 1].uid == id)
            return give(number ? &entries[number - 1] : NULL, out, buffer);
    }
}

static enum nss_status limit_grnam(const char *name, void *out, char *buffer, size_t len, int *error) {
    (void)len, (void)error;
    struct entry *e = find_text(&by_group, name);
    struct group *group = out;
    if (!e)
        return NSS_STATUS_NOTFOUND;
    char **members = (char **)buffer, *p = buffer + 9 * sizeof(char *);
    memcpy(p, arena + e->text, 128);
    group->gr_name = p, p += strlen(p) + 1, group->gr_passwd = p, p += 2, group->gr_gid = e->gid;
    for (uint32_t m = 0; m < e->nmem; m++)
        members[m] = p, p += strlen(p) + 1;
    members[e->nmem] = NULL, group->gr_mem = members;
    return NSS_STATUS_SUCCESS;
}

static enum nss_status limit_groups(const char *name, gid_t skip, long *start, long *size, gid_t **list, long limit, int *error) {
    (void)skip, (void)size, (void)limit, (void)error;
    struct entry *e = find_text(&by_user, name);
    if (!e)
        return NSS_STATUS_NOTFOUND;
    for (uint32_t n = 0; n < e->gids; n++)
        (*list)[(*start)++] = e->gid;
    return NSS_STATUS_SUCCESS;
}

/* --- measuring --------------------------------------------------------------------------------------- */

static void *function(void *handle, const char *service, const char *name) {
    char symbol[64];
    snprintf(symbol, sizeof symbol, "_nss_%s_%s", service, name);
    return dlsym(handle, symbol);
}

static void load(const char *module, const char *service) {
    if (!strcmp(module, "limit")) {
        pwnam = limit_pwnam, pwuid = limit_pwuid, grnam = limit_grnam, initgroups_dyn = limit_groups;
        return;
    }
    void *handle = dlopen(strcmp(module, "libc") ? module : "libc.so.6", RTLD_NOW);
    if (!handle) {
        fprintf(stderr, "%s\n", dlerror());
        exit(1);
    }
    pwnam = (by_name)function(handle, service, "getpwnam_r"), pwuid = (by_id)function(handle, service, "getpwuid_r");
    grnam = (by_name)function(handle, service, "getgrnam_r");
    initgroups_dyn = (groups_of)function(handle, service, "initgroups_dyn");
}

static __thread enum nss_status last;

static void one(int what, long n) {
    static __thread char buffer[65536] __attribute__((aligned(16)));
    static __thread struct passwd user;
    static __thread struct group group;
    int error = 0;
    gid_t room[64], *list = room;
    long start = 1, size = 64;
    room[0] = 0;
    switch (what) {
    case 0: last = pwnam(names[n], &user, buffer, sizeof buffer, &error); break;
    case 1: last = pwnam(absent[n], &user, buffer, sizeof buffer, &error); break;
    case 2: last = pwuid(ids[n], &user, buffer, sizeof buffer, &error); break;
    case 3: last = grnam(teams[n], &group, buffer, sizeof buffer, &error); break;
    case 4: last = initgroups_dyn(names[n], 0, &start, &size, &list, -1, &error); break;
    }
}

static int order(const void *a, const void *b) {
    double d = *(const double *)a - *(const double *)b;
    return d < 0 ? -1 : d > 0;
}

/* The median batch: long enough for the clock, and short enough that most are over before the scheduler
 * lets somebody else run, so that a busy machine disturbs few of them. */
static double measure(int what) {
    double batches[BATCHES];
    long calls = 1, n = 0;
    for (;; calls *= 2) {
        double begin = now();
        for (long c = 0; c < calls; c++)
            one(what, n = (n + 7919) % hot);
        if (now() - begin > 2e5 || calls > 100000)
            break;
    }
    for (int b = 0; b < BATCHES; b++) {
        double begin = now();
        for (long c = 0; c < calls; c++)
            one(what, n = (n + 7919) % hot);
        batches[b] = (now() - begin) / calls;
    }
    qsort(batches, BATCHES, sizeof *batches, order);
    return batches[BATCHES / 2];
}

static long rounds;
static double begins[2][PIECES], ends[2][PIECES];

static void *many(void *which) {
    long thread = (long)which, n = thread * 4099 % hot;
    for (long p = 0; p < PIECES; p++) {
        begins[thread][p] = now();
        for (long c = 0; c < rounds; c++)
            one(0, n = (n + 7919) % hot);
        ends[thread][p] = now();
    }
    return NULL;
}

/* The median of the first thread's pieces, in ns per call. With `beside`, of those only during which the
 * second thread was at work without a pause: on a busy machine the two often do not run at once. */
static double typical(int beside) {
    static double took[PIECES];
    long counted = 0, other = 0;
    for (long p = 0; p < PIECES; p++) {
        int together = 1;
        if (beside) {
            while (other < PIECES && ends[1][other] < begins[0][p])
                other++;
            together = other < PIECES && begins[1][other] <= begins[0][p];
            double reached = begins[0][p];
            for (long o = other; together && reached < ends[0][p]; o++) {
                together = o < PIECES && ends[1][o] - begins[1][o] < 5 * 2e4;
                reached = together ? ends[1][o] : reached;
            }
        }
        if (together)
            took[counted++] = (ends[0][p] - begins[0][p]) / rounds;
    }
    qsort(took, counted, sizeof *took, order);
    return counted > 100 ? took[counted / 2] : 0;
}

/* How many times faster two threads get through twice the work; 0 when they hardly ever ran at once. */
static double scaling(double estimate) {
    pthread_t threads[2];
    rounds = 2e4 / estimate + 1;
    many((void *)0);
    double alone = typical(0);
    for (long t = 0; t < 2; t++)
        pthread_create(&threads[t], NULL, many, (void *)t);
    for (int t = 0; t < 2; t++)
        pthread_join(threads[t], NULL);
    double both = typical(1);
    return both > 0 ? 2 * alone / both : 0;
}

static void spread(double seconds) {
    static unsigned counts[1 << 20];
    double end = now() + seconds * 1e9, worst = 0, sum = 0;
    long calls = 0, n = 0, seen = 0;
    while (now() < end) {
        double begin = now();
        one(0, n = (n + 7919) % hot);
        double took = now() - begin;
        counts[took < (1 << 20) ? (long)took : (1 << 20) - 1]++;
        worst = took > worst ? took : worst, sum += took, calls++;
        if (last != NSS_STATUS_SUCCESS)
            exit(1);
    }
    double shares[] = {0.5, 0.99, 0.999, 0.9999};
    printf("%ld calls, mean %.0f ns", calls, sum / calls);
    for (int s = 0, ns = 0; s < 4 && ns < 1 << 20; ns++)
        for (seen += counts[ns]; s < 4 && seen >= shares[s] * calls; s++)
            printf(", p%g %d", shares[s] * 100, ns);
    printf(", worst %.0f ns\n", worst);
}

int main(int argc, char **argv) {
    if (argc < 5)
        return 2;
    users = atol(argv[3]);
    if (!strcmp(argv[4], "cold")) {
        hot = 1, make_names();
        double begin = now();
        load(argv[1], argv[2]);
        one(0, 0);
        printf("%.1f\n", (now() - begin) / 1000);
        return last != NSS_STATUS_SUCCESS;
    }
    hot = !strcmp(argv[4], "spread") ? users : atol(argv[4]);
    make_names();
    if (!strcmp(argv[1], "limit"))
        make_limit();
    load(argv[1], argv[2]);
    if (!strcmp(argv[4], "spread")) {
        spread(atof(argv[5]));
        return 0;
    }
    /* Warm whatever can be warmed. */
    for (long n = 0; n < hot && strcmp(argv[1], "libc"); n++)
        one(0, n), one(2, n), one(3, n), one(4 * (initgroups_dyn != NULL), n);
    if (argc > 5)
        return 0;
    static const enum nss_status wanted[] = {NSS_STATUS_SUCCESS, NSS_STATUS_NOTFOUND, NSS_STATUS_SUCCESS, NSS_STATUS_SUCCESS, NSS_STATUS_SUCCESS};
    for (int what = 0; what < 5; what++) {
        if (what == 4 && !initgroups_dyn) {
            printf(" %11s", "absent");
            continue;
        }
        double took = measure(what);
        printf(" %9.0f%s", took, last == wanted[what] ? "  " : " !");
        fflush(stdout);
    }
    if (strcmp(argv[1], "libc"))
        printf(" %8.2f", scaling(measure(0)));
    printf("\n");
    return 0;
}
