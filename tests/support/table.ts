// Aligned text as data: a scenario that is read at a glance.
//
//   name  kind  size  in      at    priority
//   ram   ram   8000  system  0
//   rom   rom   1000  system  2000  1
//
// A cell begins under its column's title; what is not said stays empty.

type Cells = Readonly<{ [column: string]: string }>;

/** The rows below the titles. Throws for a cell that does not stand under one title. */
export function parseTable(text: string): Cells[] {
  const [titles, ...rows] = text.split('\n').filter((line) => line.trim() !== '');
  if (titles === undefined) throw new Error('the table has no titles');
  const columns = [...titles.matchAll(/\S+/g)].map((match) => ({ name: match[0], start: match.index }));
  return rows.map((row) => {
    const cells = [...row.matchAll(/\S+(?: \S+)*/g)].map((match) => {
      const column = columns.find(({ start }) => start === match.index);
      if (column === undefined) throw new Error(`"${match[0]}" stands under no title:\n${titles}\n${row}`);
      return [column.name, match[0]];
    });
    return Object.fromEntries(cells);
  });
}

/** Lines whose words stand under each other; the last column is not padded. */
export function alignRows(rows: readonly (readonly string[])[]): string[] {
  const widths: number[] = [];
  for (const row of rows) for (const [i, cell] of row.entries()) widths[i] = Math.max(widths[i] ?? 0, cell.length);
  return rows.map((row) =>
    row
      .map((cell, i) => cell.padEnd(widths[i] as number))
      .join('  ')
      .trimEnd(),
  );
}
