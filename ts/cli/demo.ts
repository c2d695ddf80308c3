import { type Command, EXIT } from './command.ts';
export const demoCommand: Command = {
  help: '',
  options: {},
  async run() {
    return EXIT.done;
  },
};
