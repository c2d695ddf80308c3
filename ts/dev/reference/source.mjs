// Source text of declarations, as pages show it.

import ts from 'typescript';

/** Columns of a line. */
const COLUMNS = 100;

/** Text of a symbol's declarations, without what says that they are exported; of a getter and setter, both. */
export function sourceOf(symbol) {
  const texts = symbol.declarations.map((declaration) => {
    const node = ts.isVariableDeclaration(declaration) ? declaration.parent : declaration;
    const end = ts.isInterfaceDeclaration(node) ? '' : ';';
    const text = node
      .getText()
      .replace(/^(export )?(declare )?/, '')
      .replace(/;?$/, end);
    return indented(text, ts.isClassElement(node) || ts.isTypeElement(node) ? 1 : 0);
  });
  return texts.join('\n');
}

/** Text in two columns a level, less the levels that it is inside of; the compiler writes four. */
function indented(text, inside) {
  return text.replace(/\n( +)/g, (_, { length }) => {
    const [levels, rest] = [Math.floor(length / 4) - inside, length % 4];
    return `\n${' '.repeat(Math.max(0, levels) * 2 + rest)}`;
  });
}

/** Text that stands for an alias where something else names its type and the alias is lost. */
export function textInside(checker, symbol) {
  const flags = ts.TypeFormatFlags.NoTruncation | ts.TypeFormatFlags.InTypeAlias;
  return checker.typeToString(checker.getDeclaredTypeOfSymbol(symbol), undefined, flags).replaceAll('"', "'");
}

/** Text of what an alias comes to: its members' names, or objects with all their fields. */
export function expanded(checker, symbol) {
  const type = checker.getDeclaredTypeOfSymbol(symbol);
  const members = type.isUnion() ? type.types : [type];
  const texts = members.map((member) => (member.isLiteral() ? literal(member) : fields(checker, member)));
  return texts.length === 1 || texts.every((text) => text.length < 20)
    ? ` ${texts.join(' | ')}`
    : texts
        .sort()
        .map((text) => `\n  | ${text.replaceAll('\n', '\n    ')}`)
        .join('');
}

function literal({ value }) {
  return JSON.stringify(value).replace(/^"(.*)"$/, "'$1'");
}

function fields(checker, type) {
  const texts = checker.getPropertiesOfType(type).map((property) => {
    const isOptional = (property.flags & ts.SymbolFlags.Optional) !== 0;
    const text = checker.typeToString(checker.getTypeOfSymbol(property), undefined, ts.TypeFormatFlags.NoTruncation);
    return `${/^\w+$/.test(property.name) ? property.name : `'${property.name}'`}${isOptional ? '?' : ''}: ${text.replaceAll('"', "'")}`;
  });
  const line = `{ ${texts.join('; ')} }`;
  return line.length <= COLUMNS ? line : `{\n${filled(texts)}\n}`;
}

/** Fields in as few lines as they need. */
function filled(texts) {
  const lines = [];
  for (const text of texts) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + text.length + 2 <= COLUMNS) lines[lines.length - 1] = `${last} ${text};`;
    else lines.push(`  ${text};`);
  }
  return lines.join('\n');
}
