import type { Config } from "../../app/config.ts";
import { databaseName } from "../../cli/client/addresses.ts";
import { formatCount, formatMemoryCount } from "../../cli/output/format-count.ts";
import { warningLogger } from "../../cli/output/log.ts";
import { createProgress } from "../../cli/output/progress.ts";
import { UsageError } from "../../cli/usage-error.ts";
import type { Database } from "../../storage/database/database.ts";
import { openPostgresDatabase } from "../../storage/database/server/postgres-database.ts";
import { type AdoptionPlan, planAdoption } from "../adoption/adoption-plan.ts";
import { type CopiedTable, copyTable } from "../adoption/copy-table.ts";
import type { TargetDomain } from "../import/target-domain.ts";
import type { AdoptCall } from "./adopt-options.ts";
import { choicesOf, countMemories, createReporter, formatNote, readTables } from "./adoption-report.ts";
import { withTargetDomain } from "./open-target-domain.ts";

/** Copies the tables of the old server from another database into a server. Returns the exit code. */
export async function adoptByCopy(config: Config, call: AdoptCall): Promise<number> {
  const url = call.from ?? "";
  if (!URL.canParse(url) || !/^postgres(ql)?:$/.test(new URL(url).protocol)) {
    throw new UsageError("--from must be a URL such as postgres://user:password@host:5432/database");
  }
  const connection = { connectionString: url };
  const source = await openPostgresDatabase({ connection, poolSize: 1, logger: warningLogger });
  try {
    const plan = planAdoption(await readTables(source), choicesOf(call), new Set(), { copy: true });
    const place = databaseName({ ...config, postgres: connection });
    const reporter = createReporter(call, { place, plan });
    if (!reporter.proceeds) return reporter.showPlan();
    return await withTargetDomain({ server: call.server }, async (target) => {
      const copied = await copyTables(source, target, plan, call);
      const exitCode = reporter.showResult(copied, copied.map(formatCopied));
      return copied.some(({ rejected }) => rejected > 0) ? 1 : exitCode;
    });
  } finally {
    await source.close();
  }
}

async function copyTables(
  source: Database,
  target: TargetDomain,
  plan: AdoptionPlan,
  { onConflict = "skip", signal }: AdoptCall,
): Promise<CopiedTable[]> {
  const progress = createProgress();
  const total = countMemories(plan);
  let rows = 0;
  try {
    return await source.session(async (session) => {
      await session.execute("set statement_timeout = 0; set default_transaction_read_only = on");
      const copied: CopiedTable[] = [];
      for (const table of plan.tables) {
        copied.push(
          await copyTable(session, target.client, table, {
            onConflict,
            signal,
            onProgress: (count) => {
              rows += count;
              progress.show(`${table.domain}: ${formatMemoryCount(rows)}`, rows, total);
            },
            onRejected: ({ old }, id, reason) => {
              progress.clear();
              console.error(`${JSON.stringify(old.table)}, memory ${JSON.stringify(id)}: ${reason}`);
            },
          }),
        );
      }
      return copied;
    });
  } finally {
    progress.clear();
  }
}

function formatCopied(table: CopiedTable): string {
  return `${table.domain}: ${formatMemoryCount(table.memories)} read, ${formatCount(table.created)} created${formatNote(table.replaced, "replaced")}${formatNote(table.unchanged, "unchanged")}${formatNote(table.kept, "kept as they are in the target")}${formatNote(table.rejected, "rejected")}${formatNote(table.inexactNumbers, "with numbers that are also kept as text")}`;
}
