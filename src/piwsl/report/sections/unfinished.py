"""What is missing in the report of an experiment that is not finished."""

from __future__ import annotations

from piwsl.report.context import Context
from piwsl.report.markup import render
from piwsl.report.sections import ReportSection

# Results that are left out; of more it is said how many.
MOST_NAMED = 5

TEMPLATE = """\
<p><strong>This is a report of what was there when it was written: {{ done }} of {{ jobs }} jobs.</strong>
{% if tested %}
{{ tested }} of {{ runs }} training runs are tested. Means are over the seeds that are there, and comparisons may come
out otherwise when all are.
{% else %}
None of {{ runs }} training runs is tested yet.
{% endif %}
{% if failed %}
{{ failed }} {{ "job" if failed == 1 else "jobs" }} failed; <code>piwsl status</code> names them and the last line of
their logs.
{% endif %}
{% if left_out %}
{{ left_out | length }} {{ "model or simulation that is there is" if left_out | length == 1
else "models and simulations that are there are" }} of other settings than the configuration's, and left out, with what
was made of {{ "it" if left_out | length == 1 else "them" }}: {{ left_out[:named] | join("; ") }}
{%- if left_out | length > named %}; and {{ left_out | length - named }} more{% endif %}.
Snakemake makes them anew; if it does not, say <code>--forcerun</code> and the file.
{% endif %}
Other results that are there are reported; whether an edit outdated them, <code>snakemake --dry-run</code> says.
</p>
<div class="scroll" tabindex="0" role="region" aria-label="Jobs of the stages that are not finished, a table">
<table>
<thead><tr><th scope="col">Stage that is not finished</th><th scope="col" class="number">Missing</th>
<th scope="col" class="number">Done</th><th scope="col" class="number">Failed</th></tr></thead>
<tbody>
{% for stage in stages %}
<tr><td><code>{{ stage.name }}</code></td><td class="number">{{ stage.jobs - stage.done }}</td>
<td class="number">{{ stage.done }}</td><td class="number">{{ stage.failed }}</td></tr>
{% endfor %}
</tbody></table></div>
"""


class Unfinished(ReportSection):
    """The stages that are not finished, of an experiment that is not."""

    title = "Not finished"
    place = 1

    def html(self, context: Context) -> str:
        """Return how much is there, and what is missing; nothing of an experiment that is finished."""
        if not context.unfinished:
            return ""
        return render(
            TEMPLATE,
            jobs=sum(stage.jobs for stage in context.unfinished),
            done=sum(stage.done for stage in context.unfinished),
            failed=sum(stage.failed for stage in context.unfinished),
            tested=len(context.runs),
            runs=len(context.experiment.runs()),
            left_out=context.left_out,
            named=MOST_NAMED,
            stages=[stage for stage in context.unfinished if stage.done < stage.jobs],
        )
