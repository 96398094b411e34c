/* bench_plot: three panels of horizontal bars, written as SVG by hand. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "bench_plot.h"

#define BENCH_PLOT_WIDTH 760
#define BENCH_PLOT_LEFT  210
#define BENCH_PLOT_RIGHT 90
#define BENCH_PLOT_BAR   14
#define BENCH_PLOT_ROW   40
#define BENCH_PLOT_PANEL (BENCH_PLOT_ROW * BENCH_LESSON_WAYS + 50)
#define BENCH_PLOT_TOP   60

#define BENCH_PLOT_FIRST_COLOR  "#2f6fab"
#define BENCH_PLOT_SECOND_COLOR "#c0504d"

struct bench_plot_panel {
    const char *title;
    const char *first_name; /* legend; NULL: one bar a way */
    const char *second_name;
    double first[BENCH_LESSON_WAYS];
    double second[BENCH_LESSON_WAYS];
    bool logarithmic;
};

/* Part of the axis, 0 to 1. */
static double bench_plot_scale(const struct bench_plot_panel *panel, double value, double low,
                               double high)
{
    if (!panel->logarithmic)
        return high > 0 ? value / high : 0;
    return value > low ? log10(value / low) / log10(high / low) : 0;
}

static void bench_plot_bar(FILE *file, int y, double part, double value, const char *color)
{
    double width = part * (BENCH_PLOT_WIDTH - BENCH_PLOT_LEFT - BENCH_PLOT_RIGHT);
    fprintf(file,
            "<rect x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/>\n"
            "<text x=\"%.1f\" y=\"%d\" font-size=\"12\">%.*f</text>\n",
            BENCH_PLOT_LEFT, y, width < 1 ? 1 : width, BENCH_PLOT_BAR, color,
            BENCH_PLOT_LEFT + width + 5, y + BENCH_PLOT_BAR - 2, value < 10 ? 2 : 0, value);
}

static void bench_plot_legend(FILE *file, int y, const struct bench_plot_panel *panel)
{
    const char *const names[] = {panel->first_name, panel->second_name};
    static const char *const colors[] = {BENCH_PLOT_FIRST_COLOR, BENCH_PLOT_SECOND_COLOR};
    for (int i = 0; i < 2; i++)
        fprintf(file,
                "<rect x=\"%d\" y=\"%d\" width=\"10\" height=\"10\" fill=\"%s\"/>\n"
                "<text x=\"%d\" y=\"%d\" font-size=\"12\">%s</text>\n",
                BENCH_PLOT_WIDTH - 190 + i * 90, y - 10, colors[i], BENCH_PLOT_WIDTH - 175 + i * 90,
                y - 1, names[i]);
}

static void bench_plot_draw(FILE *file, int top, const struct bench_lesson *lesson,
                            const struct bench_plot_panel *panel)
{
    double low = INFINITY, high = 0;
    for (int i = 0; i < BENCH_LESSON_WAYS; i++) {
        low = fmin(low, panel->first[i]);
        high = fmax(high, fmax(panel->first[i], panel->second[i]));
    }
    low = low > 0 ? low / 3 : 0.001; /* the shortest bar stays visible */
    high = high > low ? high : low * 10;
    fprintf(file, "<text x=\"20\" y=\"%d\" font-size=\"14\" font-weight=\"bold\">%s</text>\n", top,
            panel->title);
    if (panel->first_name)
        bench_plot_legend(file, top, panel);
    for (int i = 0; i < BENCH_LESSON_WAYS; i++) {
        int y = top + 14 + i * BENCH_PLOT_ROW;
        fprintf(file, "<text x=\"%d\" y=\"%d\" font-size=\"12\" text-anchor=\"end\">%s</text>\n",
                BENCH_PLOT_LEFT - 8, y + (panel->first_name ? BENCH_PLOT_BAR + 3 : 11),
                lesson->ways[i].title);
        bench_plot_bar(file, y, bench_plot_scale(panel, panel->first[i], low, high),
                       panel->first[i], BENCH_PLOT_FIRST_COLOR);
        if (panel->first_name)
            bench_plot_bar(file, y + BENCH_PLOT_BAR,
                           bench_plot_scale(panel, panel->second[i], low, high), panel->second[i],
                           BENCH_PLOT_SECOND_COLOR);
    }
}

bool bench_plot(const struct bench_lesson *lesson, const char *path)
{
    struct bench_plot_panel panels[] = {
        {.title = "Latency of the other clients, ms (logarithmic)",
         .first_name = "median",
         .second_name = "99th pct.",
         .logarithmic = true},
        {.title = "Throughput of all clients, reads of 64 KiB a second"},
        {.title = "Anonymous memory of all chunkservers, MiB"},
    };
    int height = BENCH_PLOT_TOP + 3 * BENCH_PLOT_PANEL;
    for (int i = 0; i < BENCH_LESSON_WAYS; i++) {
        panels[0].first[i] = lesson->ways[i].p50_ms;
        panels[0].second[i] = lesson->ways[i].p99_ms;
        panels[1].first[i] = lesson->ways[i].ops_per_s;
        panels[2].first[i] = lesson->ways[i].memory_mib;
    }
    FILE *file = fopen(path, "we");
    if (!file)
        return bench_fail("%s: %s", path, strerror(errno));
    fprintf(file,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" "
            "font-family=\"sans-serif\">\n<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n"
            "<text x=\"20\" y=\"24\" font-size=\"15\">%u clients read while one more reads a chunk "
            "whose storage takes %u ms</text>\n",
            BENCH_PLOT_WIDTH, height, lesson->others, lesson->delay_ms);
    for (int i = 0; i < 3; i++)
        bench_plot_draw(file, BENCH_PLOT_TOP + i * BENCH_PLOT_PANEL, lesson, &panels[i]);
    fputs("</svg>\n", file);
    bool failed = ferror(file);
    if (fclose(file) || failed)
        return bench_fail("%s: %s", path, strerror(errno));
    return true;
}
