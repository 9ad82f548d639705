/* config show: what every setting is and why. */
#include "cli/cli.h"

#include <stdio.h>

/* The form of the ini file: it can be kept as one, apart from the secrets. */
static void show(const cli *c, size_t index)
{
    const setting_row *row = &option_rows[index];
    const setting_value *value = &c->settings.values[index];
    char key[64];

    (void)snprintf(key, sizeof(key), "%s", row->name);
    for (char *dash = key; (dash = strchr(dash, '-')) != NULL;)
        *dash = '_';
    if (value->origin == SETTING_UNSET)
        (void)printf("; %s is not set\n", key);
    else if (row->secret)
        (void)printf("; %s is set and not shown  ; %s\n", key, value->source);
    else
        (void)printf("%s = %s  ; %s\n", key, value->text, value->source);
}

int cmd_config_show(cli *c)
{
    (void)puts("[pgqueuer]");
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        if (option_rows[i].in_file && command_takes(c->command, i))
            show(c, i);
    }
    return EXIT_DONE;
}
