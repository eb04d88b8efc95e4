/* SPDX-License-Identifier: BSD-2-Clause
 *
 * plot.c - curves of latency against load as an SVG picture, latency by its logarithm.
 */
#include <math.h>

#include "sim/sim.h"

#define WIDTH  760.0
#define HEIGHT 460.0
#define LEFT   60.0
#define RIGHT  610.0
#define TOP    40.0
#define BOTTOM 410.0

/* Told apart by people who see colours badly, too (Okabe, Ito). */
static const char *const colours[] = {"#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00",
                                      "#56b4e9", "#000000", "#999999", "#882255", "#44aa99"};

struct frame {
    double x0, x1, y0, y1; /* y: log10 */
};

static struct frame
frame_of(const struct sim_curve *c, unsigned n)
{
    struct frame f = {1e30, -1e30, 1e30, -1e30};

    for (unsigned i = 0; i < n; i++)
        for (unsigned k = 0; k < c[i].n; k++) {
            double y = log10(fmax(c[i].y[k], 1e-3));

            f.x0 = fmin(f.x0, c[i].x[k]);
            f.x1 = fmax(f.x1, c[i].x[k]);
            f.y0 = fmin(f.y0, floor(y * 2) / 2);
            f.y1 = fmax(f.y1, ceil(y * 2) / 2);
        }
    f.x1 = f.x1 > f.x0 ? f.x1 : f.x0 + 1;
    f.y1 = f.y1 > f.y0 ? f.y1 : f.y0 + 1;
    return f;
}

static double
x_of(const struct frame *f, double x)
{
    return LEFT + (x - f->x0) / (f->x1 - f->x0) * (RIGHT - LEFT);
}

static double
y_of(const struct frame *f, double log_y)
{
    return BOTTOM - (log_y - f->y0) / (f->y1 - f->y0) * (BOTTOM - TOP);
}

static void
axes(FILE *out, const struct frame *f, const char *title)
{
    static const double steps[] = {1, 2, 5};

    fprintf(out, "<text x=\"%g\" y=\"22\" font-size=\"15\">%s</text>\n", LEFT, title);
    for (int decade = (int)floor(f->y0); decade <= (int)ceil(f->y1); decade++)
        for (unsigned i = 0; i < 3; i++) {
            double at = decade + log10(steps[i]);

            if (at < f->y0 - 1e-9 || at > f->y1 + 1e-9)
                continue;
            fprintf(out,
                    "<line x1=\"%g\" y1=\"%.1f\" x2=\"%g\" y2=\"%.1f\" stroke=\"#ddd\"/>"
                    "<text x=\"%g\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n",
                    LEFT, y_of(f, at), RIGHT, y_of(f, at), LEFT - 6, y_of(f, at) + 4, pow(10, at));
        }
    for (double x = ceil(f->x0 / 10) * 10; x <= f->x1; x += 10)
        fprintf(out, "<text x=\"%.1f\" y=\"%g\" text-anchor=\"middle\">%g</text>\n", x_of(f, x),
                BOTTOM + 18, x);
    fprintf(out, "<text x=\"%g\" y=\"%g\" text-anchor=\"middle\">load, %% of the capacity</text>\n",
            (LEFT + RIGHT) / 2, BOTTOM + 38);
    fprintf(out,
            "<text x=\"14\" y=\"%g\" transform=\"rotate(-90 14 %g)\" "
            "text-anchor=\"middle\">milliseconds</text>\n",
            (TOP + BOTTOM) / 2, (TOP + BOTTOM) / 2);
}

static void
curve(FILE *out, const struct frame *f, const struct sim_curve *c, unsigned i)
{
    const char *colour = colours[i % (sizeof(colours) / sizeof(colours[0]))];

    fprintf(out, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" points=\"", colour);
    for (unsigned k = 0; k < c->n; k++)
        fprintf(out, "%.1f,%.1f ", x_of(f, c->x[k]), y_of(f, log10(fmax(c->y[k], 1e-3))));
    fprintf(out, "\"/>\n");
    fprintf(out,
            "<line x1=\"%g\" y1=\"%g\" x2=\"%g\" y2=\"%g\" stroke=\"%s\" stroke-width=\"3\"/>"
            "<text x=\"%g\" y=\"%g\">%s</text>\n",
            RIGHT + 14, TOP + 20.0 * i, RIGHT + 34, TOP + 20.0 * i, colour, RIGHT + 40,
            TOP + 20.0 * i + 4, c->name);
}

void
sim_plot(FILE *out, const char *title, const struct sim_curve *c, unsigned n)
{
    struct frame f = frame_of(c, n);

    fprintf(out,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%g\" height=\"%g\" "
            "font-family=\"sans-serif\" font-size=\"12\">\n"
            "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n",
            WIDTH, HEIGHT);
    axes(out, &f, title);
    for (unsigned i = 0; i < n; i++)
        curve(out, &f, &c[i], i);
    fprintf(out, "</svg>\n");
}
