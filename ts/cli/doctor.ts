// The subcommand `doctor`: whether this machine has what the package needs, and what each lack means.

import { inspectMachine } from '../index.ts';
import { type Command, EXIT, UsageError } from './command.ts';
import { canRunGuests, diagnose, renderFindings } from './diagnosis.ts';
import { jsonLine } from './json.ts';
import { print, printLines, styled } from './output.ts';

const HELP = `usage: membacking doctor [--json]

Says what this machine can do for a monitor, and for what is missing the command that mends it: the addon; KVM and
its capabilities; huge pages; NUMA, userfaultfd, PAGEMAP_SCAN, protection keys; VFIO and iommufd; mappings, locked
memory, descriptors. It asks, and changes nothing.

  --json     one line: {"canRunGuests","findings":[{"subject","name","state","says","mend"}],"facts"}; a state is yes,
             no or low; facts are those of inspectMachine()
  --help     print this

Exit codes: 0 guests can be run here, 1 they cannot, 2 the usage is wrong.

Examples:
  membacking doctor
  membacking doctor --json | jq -r '.findings[] | select(.state != "yes") | .mend'
`;

export const doctorCommand: Command = {
  help: HELP,
  options: { json: { type: 'boolean' } },
  async run({ options: { json }, operands }) {
    if (operands.length > 0) throw new UsageError('the doctor takes no arguments');
    const facts = inspectMachine();
    const findings = diagnose(facts);
    const isWell = canRunGuests(facts);
    if (json) {
      await print(jsonLine({ canRunGuests: isWell, findings, facts }));
    } else {
      const { node, arch, kernel } = facts.runtime;
      await printLines([styled('bold', `Linux ${kernel}, ${arch}, Node.js ${node}`), '', ...renderFindings(findings)]);
      await printLines([
        '',
        isWell ? 'Guests can be run here.' : 'No guests can be run here: see addon and KVM above.',
      ]);
    }
    return isWell ? EXIT.done : EXIT.wrongInput;
  },
};
