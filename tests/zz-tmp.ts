import { native, VcpuExit } from '../ts/native.ts';
import { enterUserMode, guestImage, GUEST_SIZE, start, runOnce } from './support/guest.ts';
import { makeWorld, SHARED, PARTITION, VA, footprint } from './support/shim-plan.ts';
function mk(){ const w=makeWorld({size:0x200000,objectSize:0x200000}); const kvm=native().Kvm.open(); const vm=kvm.createVm(); w.executor.setPartition(PARTITION,vm);
w.run({op:1,length:GUEST_SIZE,backing:SHARED},{op:6,sink:PARTITION,backing:VA,length:GUEST_SIZE});
w.space.write(0,guestImage()); const v=vm.createVcpu(0); enterUserMode(v); return {w,vm,v};}
const mode=process.argv[2];
if(mode==='gc'){ const before=footprint().length; for(let i=0;i<100;i++){ const {v}=mk(); runOnce(v,'echo'); if(i%3==0){start(v,'echo'); await v.runAsync();} } 
 for(let i=0;i<10;i++){ (globalThis as any).gc(); await new Promise(r=>setTimeout(r,20)); } console.log('before',before,'after',footprint().length); }
const m=mk(); start(m.v,'spin'); const p=m.v.runAsync().catch(e=>console.log('err',e.code));
if(mode==='exit') setTimeout(()=>process.exit(3),50);
if(mode==='throw') setTimeout(()=>{throw new Error('x')},50);
if(mode==='gc'){ m.v.kick(); await p; console.log('done'); }
if(mode==='pending'){ setTimeout(()=>{ m.v.kick(); },50); p.then(r=>console.log('r',r)); (m as any).v; }
