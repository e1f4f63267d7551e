/** Logic only: what needs a browser is tested in a real one, see tests/browser. */
module.exports = {
  testMatch: ['<rootDir>/test/**/*.spec.ts'],
  testEnvironment: 'node',
  transform: { '^.+\\.tsx?$': ['ts-jest', { tsconfig: { module: 'commonjs', moduleResolution: 'node10', esModuleInterop: true, jsx: 'react', target: 'ES2022', isolatedModules: true, ignoreDeprecations: '5.0' }, diagnostics: false }] }
};
